//go:build servers

package redis_test

import (
	"errors"
	"testing"
	"time"

	library "github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	"github.com/outrigger-mesh/outrigger/components/cache/cachetest"
	"github.com/outrigger-mesh/outrigger/components/cache/redis"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/redistest"
)

func TestConformance(t *testing.T) {
	for _, kind := range redistest.All {
		t.Run(kind, func(t *testing.T) {
			env, o := redistest.Env(t), redis.Options{Redis: redistest.Options(t, kind)}
			cachetest.Run(t, func(t *testing.T) cache.Driver {
				d, err := redis.Open(t.Context(), env, o)
				if err != nil {
					t.Fatal(err)
				}
				return d
			})
		})
	}
}

// TestWhatSomebodyElseWroteIsNoItem but an error, and stays as it was.
func TestWhatSomebodyElseWroteIsNoItem(t *testing.T) {
	o := redistest.Options(t, "redis")
	env := redistest.Env(t)
	d, err := redis.Open(t.Context(), env, redis.Options{Redis: o})
	if err != nil {
		t.Fatal(err)
	}
	defer d.(components.Closer).Close(t.Context())
	c := redistest.Open(t, o)
	key := o.Keys("cache", env.ID.Name) + "k"
	if err := c.Do(t.Context(), redisconn.Write, key, library.NewStatusCmd(t.Context(), "set", key, "7")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(t.Context(), "k"); !errors.Is(err, components.ErrDamaged) {
		t.Errorf("get: %v", err)
	}
	if _, err := d.(cache.Incrementer).Increment(t.Context(), "k", 1, 0); !errors.Is(err, components.ErrDamaged) {
		t.Errorf("increment: %v", err)
	}
	get := library.NewStringCmd(t.Context(), "get", key)
	if err := c.Do(t.Context(), redisconn.Read, key, get); err != nil || get.Val() != "7" {
		t.Errorf("%q, %v", get.Val(), err)
	}
}

// TestTouchedItemsTellTheirTime also to a driver that has seen none with an end.
func TestTouchedItemsTellTheirTime(t *testing.T) {
	env, o := redistest.Env(t), redis.Options{Redis: redistest.Options(t, "redis")}
	for _, ttl := range []time.Duration{time.Hour, 0} {
		d, err := redis.Open(t.Context(), env, o)
		if err != nil {
			t.Fatal(err)
		}
		defer d.(components.Closer).Close(t.Context())
		if _, err := d.Set(t.Context(), "k", cache.Item{TTL: time.Hour - ttl}, cache.SetOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := d.(cache.Toucher).Touch(t.Context(), "k", ttl); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Get(t.Context(), "k"); err != nil || got.TTL > ttl || got.TTL < ttl-time.Minute {
			t.Errorf("%s are left of %s, %v", got.TTL, ttl, err)
		}
	}
}
