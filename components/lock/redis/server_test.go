//go:build servers

package redis_test

import (
	"context"
	"errors"
	"testing"
	"time"

	library "github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/redistest"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/locktest"
	"github.com/outrigger-mesh/outrigger/components/lock/redis"
)

func TestConformance(t *testing.T) {
	for _, kind := range redistest.All {
		t.Run(kind, func(t *testing.T) {
			env, o := redistest.Env(t), redis.Options{Redis: redistest.Options(t, kind)}
			locktest.Run(t, func(t *testing.T) lock.Driver {
				d, err := redis.Open(t.Context(), env, o)
				if err != nil {
					t.Fatal(err)
				}
				return d
			})
		})
	}
}

// TestTokensGrowWhereTheKeyIsGone and where the server's clock is behind what was given.
func TestTokensGrowWhereTheKeyIsGone(t *testing.T) {
	o, env := redistest.Options(t, "redis"), redistest.Env(t)
	d, err := redis.Open(t.Context(), env, redis.Options{Redis: o})
	if err != nil {
		t.Fatal(err)
	}
	defer d.(components.Closer).Close(t.Context())
	c, key := redistest.Open(t, o), o.Keys("lock", env.ID.Name)+"l"
	last := uint64(0)
	take := func(what string) {
		t.Helper()
		got, err := d.TryLock(t.Context(), "l", what, lock.MinLease)
		if err != nil || got.Token <= last {
			t.Fatalf("%s: token %d after %d, %v", what, got.Token, last, err)
		}
		last = got.Token
	}
	take("at first")
	if err := c.Do(t.Context(), redisconn.Write, key, library.NewIntCmd(t.Context(), "del", key)); err != nil {
		t.Fatal(err)
	}
	take("without the key")
	last += uint64(time.Hour / time.Microsecond)
	if err := c.Do(t.Context(), redisconn.Write, key, library.NewIntCmd(t.Context(), "hset", key, "t", last, "e", 0)); err != nil {
		t.Fatal(err)
	}
	take("with a clock that is an hour behind")
	left := library.NewDurationCmd(t.Context(), time.Millisecond, "pttl", key)
	if err := c.Do(t.Context(), redisconn.Read, key, left); err != nil || left.Val() < 23*time.Hour {
		t.Errorf("the key is kept for %s, %v", left.Val(), err)
	}
}

// TestACallThatHasLeftKeepsNothing but what another call of its owner was told of. The server is paused while it leaves.
func TestACallThatHasLeftKeepsNothing(t *testing.T) {
	o, env := redistest.Options(t, "redis"), redistest.Env(t)
	d, err := redis.Open(t.Context(), env, redis.Options{Redis: o})
	if err != nil {
		t.Fatal(err)
	}
	defer d.(components.Closer).Close(t.Context())
	c := redistest.Open(t, o)
	leave := func(key string) {
		t.Helper()
		if err := c.Redis().Do(t.Context(), "client", "pause", 300, "all").Err(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := d.TryLock(ctx, key, "owner", time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s: %v", key, err)
		}
	}
	held, err := d.TryLock(t.Context(), "held", "owner", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leave("held")
	leave("free")
	componenttest.Eventually(t, 10*time.Second, func() error {
		_, err := d.TryLock(t.Context(), "free", "another", time.Hour)
		return err
	})
	if _, err := d.Renew(t.Context(), "held", held.Token, time.Hour); err != nil {
		t.Errorf("who had it is told: %v", err)
	}
}
