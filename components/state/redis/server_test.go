//go:build servers

package redis_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	library "github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/redistest"
	"github.com/outrigger-mesh/outrigger/components/state"
	"github.com/outrigger-mesh/outrigger/components/state/redis"
	"github.com/outrigger-mesh/outrigger/components/state/statetest"
)

func options(t testing.TB, kind string) redis.Options {
	return redis.Options{Redis: redistest.Options(t, kind), Idempotency: time.Hour, Barriers: time.Hour}
}

func open(t testing.TB, env components.Env, o redis.Options) state.Driver {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	d, err := redis.Open(t.Context(), env, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	for _, kind := range redistest.All {
		t.Run(kind, func(t *testing.T) {
			env, o := redistest.Env(t), options(t, kind)
			statetest.Run(t, func(t *testing.T) state.Driver { return open(t, env, o) })
		})
	}
}

func put(key string) state.Operation {
	return state.Operation{Kind: state.Set, Key: key, Item: state.Item{Value: []byte("v")}}
}

func transaction(all ...state.Operation) state.Transaction {
	return state.Transaction{Operations: all}
}

func there(t *testing.T, d state.Driver, key string) bool {
	t.Helper()
	_, err := d.Get(t.Context(), key)
	if err != nil && !errors.Is(err, components.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// TestKeysInDifferentSlotsAreRefused by their names, and those with a tag in common are not.
func TestKeysInDifferentSlotsAreRefused(t *testing.T) {
	o := options(t, "redis-cluster")
	o.Spread = true
	d := open(t, redistest.Env(t), o)
	defer componenttest.Close(t, d)
	_, err := d.Transact(t.Context(), transaction(put("n/a/first"), put("n/a/second")))
	if !errors.Is(err, components.ErrInvalid) || !strings.Contains(err.Error(), `"first", "second"`) {
		t.Errorf("in two slots: %v", err)
	}
	if there(t, d, "n/a/first") || there(t, d, "n/a/second") {
		t.Error("half of it was done")
	}
	if _, err := d.Transact(t.Context(), transaction(put("n/a/{tag}first"), put("n/a/{tag}second"))); err != nil || !there(t, d, "n/a/{tag}second") {
		t.Errorf("in one slot: %v", err)
	}
	for i := range 100 {
		key := fmt.Sprint("n/a/", i)
		if r, err := d.Transact(t.Context(), transaction(put(key))); err != nil || len(r.Versions) != 1 || !there(t, d, key) {
			t.Errorf("%s: %+v, %v", key, r, err)
		}
	}
	offers := d.(state.Restricted).Offers
	if _, _, err := d.List(t.Context(), "n/a/", "", 10, false); !errors.Is(err, components.ErrUnsupported) || offers(state.Fencing) || offers(state.Barriers) ||
		offers(state.Idempotency) || !offers(state.Many) {
		t.Errorf("a list: %v", err)
	}
}

// change changes a setting of a server for the time of a test.
func change(t *testing.T, c *redisconn.Client, name, value, back string) (restore func()) {
	t.Helper()
	set := func(value string) {
		if err := c.Redis().ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set(value)
	return func() { set(back) }
}

func TestAServerThatForgetsIsRefused(t *testing.T) {
	for _, c := range []struct{ kind, name, value, back string }{
		{"redis", "appendfsync", "everysec", "always"}, {"redis", "appendonly", "no", "yes"}, {"redis-sentinel", "min-replicas-to-write", "0", "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t, c.kind)
			defer change(t, redistest.Open(t, o.Redis), c.name, c.value, c.back)()
			_, err := redis.Open(t.Context(), redistest.Env(t), o)
			if !errors.Is(err, components.ErrPrecondition) || !strings.Contains(err.Error(), c.name) {
				t.Errorf("it is taken: %v", err)
			}
			o.AllowLoss = true
			componenttest.Close(t, open(t, redistest.Env(t), o))
		})
	}
}

// TestAServerWithoutMemory does nothing of a transaction that begins with what needs none.
func TestAServerWithoutMemory(t *testing.T) {
	o := options(t, "redis")
	d := open(t, redistest.Env(t), o)
	defer componenttest.Close(t, d)
	if _, err := d.Transact(t.Context(), transaction(put("n/a/deleted"))); err != nil {
		t.Fatal(err)
	}
	restore := change(t, redistest.Open(t, o.Redis), "maxmemory", "1mb", "0")
	_, err := d.Transact(t.Context(), transaction(state.Operation{Kind: state.Delete, Key: "n/a/deleted"}, put("n/a/set")))
	restore()
	if !errors.Is(err, components.ErrExhausted) {
		t.Errorf("error: %v", err)
	}
	if !there(t, d, "n/a/deleted") || there(t, d, "n/a/set") {
		t.Error("half of it was done")
	}
}

// TestWhatHasExpiredLeavesTheIndex though nobody lists it: writes take it along.
func TestWhatHasExpiredLeavesTheIndex(t *testing.T) {
	o, env := options(t, "redis"), redistest.Env(t)
	d := open(t, env, o)
	defer componenttest.Close(t, d)
	for i := range 20 {
		op := put(fmt.Sprint("n/a/expires ", i))
		op.Item.TTL = time.Millisecond
		if _, err := d.Transact(t.Context(), transaction(op)); err != nil {
			t.Fatal(err)
		}
	}
	c := redistest.Open(t, o.Redis)
	componenttest.Eventually(t, 10*time.Second, func() error {
		if _, err := d.Transact(t.Context(), transaction(put("n/a/stays"))); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"x", "e"} {
			n := library.NewIntCmd(t.Context(), "zcard", o.Redis.Keys("state", env.ID.Name)+kind+"/{n/a}")
			if err := c.Do(t.Context(), redisconn.Read, "", n); err != nil || n.Val() > 1 {
				return fmt.Errorf("%s has %d names, %w", kind, n.Val(), err)
			}
		}
		return nil
	})
}
