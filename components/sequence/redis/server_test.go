//go:build servers

package redis_test

import (
	"errors"
	"math"
	"testing"

	library "github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/redistest"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/sequence/redis"
	"github.com/outrigger-mesh/outrigger/components/sequence/sequencetest"
)

func open(t *testing.T, env components.Env, o redis.Options) sequence.Driver {
	t.Helper()
	d, err := redis.Open(t.Context(), env, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	for _, kind := range redistest.All {
		t.Run(kind, func(t *testing.T) {
			env, o := redistest.Env(t), redis.Options{Redis: redistest.Options(t, kind)}
			sequencetest.Run(t, func(t *testing.T) sequence.Driver { return open(t, env, o) })
		})
	}
}

// TestNumbersEnd with the largest one, and what is no number is said to be none.
func TestNumbersEnd(t *testing.T) {
	env, o := redistest.Env(t), redistest.Options(t, "redis")
	d := open(t, env, redis.Options{Redis: o})
	defer d.(components.Closer).Close(t.Context())
	c, key := redistest.Open(t, o), o.Keys("sequence", env.ID.Name)+"k"
	set := func(value any) {
		t.Helper()
		if err := c.Do(t.Context(), redisconn.Write, key, library.NewStatusCmd(t.Context(), "set", key, value)); err != nil {
			t.Fatal(err)
		}
	}
	set(math.MaxInt64 - 2)
	if first, err := d.Next(t.Context(), "k", 2); err != nil || first != math.MaxInt64-1 {
		t.Errorf("the last two: %d, %v", first, err)
	}
	if _, err := d.Next(t.Context(), "k", 1); !errors.Is(err, components.ErrExhausted) {
		t.Errorf("after the last: %v", err)
	}
	set("x")
	if _, err := d.Next(t.Context(), "k", 1); !errors.Is(err, components.ErrDamaged) {
		t.Errorf("of what is no number: %v", err)
	}
}

// TestAServerThatForgetsIsRefused unless that is allowed.
func TestAServerThatForgetsIsRefused(t *testing.T) {
	o := redis.Options{Redis: redistest.Options(t, "redis")}
	c := redistest.Open(t, o.Redis)
	config := func(name, value string) {
		t.Helper()
		if err := c.Redis().ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string][3]string{
		"everysec": {"appendfsync", "everysec", "always"}, "evicts": {"maxmemory-policy", "allkeys-lru", "noeviction"}, "in memory": {"appendonly", "no", "yes"},
	} {
		config("maxmemory", "1gb")
		config(change[0], change[1])
		if _, err := redis.Open(t.Context(), redistest.Env(t), o); !errors.Is(err, components.ErrPrecondition) {
			t.Errorf("%s: %v", name, err)
		}
		open(t, redistest.Env(t), redis.Options{Redis: o.Redis, AllowLoss: true}).(components.Closer).Close(t.Context())
		config(change[0], change[2])
	}
	open(t, redistest.Env(t), o).(components.Closer).Close(t.Context())
}
