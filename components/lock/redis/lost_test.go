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
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/redistest"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/redis"
)

// far is a driver on a wire, and a client that has none.
type far struct {
	lock.Driver
	wire *wiretest.Wire
	near *redisconn.Client
	key  string // of the lock "l"
}

func openFar(t *testing.T) far {
	t.Helper()
	o, env := redistest.Options(t, "redis"), redistest.Env(t)
	f := far{near: redistest.Open(t, o), wire: wiretest.New(t, o.Addresses[0]), key: o.Keys("lock", env.ID.Name) + "l"}
	o.Addresses = []string{f.wire.Addr()}
	d, err := redis.Open(t.Context(), env, redis.Options{Redis: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.(components.Closer).Close(t.Context()) })
	f.Driver = d
	return f
}

// scripts is how many the server has run.
func (f far) scripts(t *testing.T) string {
	t.Helper()
	all, err := f.near.Redis().Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, all, _ = strings.Cut(all, "cmdstat_evalsha:calls=")
	n, _, _ := strings.Cut(all, ",")
	return n
}

// TestACallThatWasLostTakesNothingFromItsOwner: the owner has the lock, and asks for it once more with a request that the server does
// not hear of. What that call may have got is given back, and what the one before has got is not.
func TestACallThatWasLostTakesNothingFromItsOwner(t *testing.T) {
	f := openFar(t)
	held, err := f.TryLock(t.Context(), "l", "owner", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	before := f.scripts(t)
	f.wire.Set(wiretest.Mute)
	asked := make(chan error, 1)
	go func() {
		_, err := f.TryLock(t.Context(), "l", "owner", time.Hour)
		asked <- err
	}()
	componenttest.Eventually(t, 10*time.Second, func() error {
		if f.wire.Lost() == 0 {
			return errors.New("nothing was lost")
		}
		return nil
	})
	f.wire.Set(wiretest.Whole)
	if err := <-asked; err == nil {
		t.Fatal("what was lost has succeeded")
	}
	componenttest.Eventually(t, 10*time.Second, func() error {
		if f.scripts(t) == before {
			return errors.New("nothing was given back")
		}
		return nil
	})
	if _, err := f.TryLock(t.Context(), "l", "another", lock.MinLease); err == nil {
		t.Error("another owner gets the lock")
	}
	if _, err := f.Renew(t.Context(), "l", held.Token, time.Hour); err != nil {
		t.Errorf("who had it is told: %v", err)
	}
}

// TestALateAnswerSaysWhatIsLeft of the lease, which has begun at the server.
func TestALateAnswerSaysWhatIsLeft(t *testing.T) {
	f := openFar(t)
	known, err := f.TryLock(t.Context(), "known", "owner", time.Minute) // so that the server knows the scripts
	if err == nil {
		_, err = f.Renew(t.Context(), "known", known.Token, time.Minute)
	}
	if err != nil {
		t.Fatal(err)
	}
	during := func(call func() (time.Duration, error)) {
		t.Helper()
		ends := func() string {
			got := library.NewStringCmd(t.Context(), "hget", f.key, "e")
			if err := f.near.Do(t.Context(), redisconn.Read, f.key, got); err != nil && !errors.Is(err, library.Nil) {
				t.Fatal(err)
			}
			return got.Val()
		}
		before := ends()
		left, late, err := wiretest.Held(f.wire, func() {
			componenttest.Eventually(t, 10*time.Second, func() error {
				if now := ends(); now == before {
					return fmt.Errorf("the lease still ends at %s", now)
				}
				return nil
			})
		}, call)
		if err != nil || left > time.Minute-late {
			t.Errorf("%v after it has begun, a lease of a minute has %v left, %v", late, left, err)
		}
	}
	var token uint64
	during(func() (time.Duration, error) {
		got, err := f.TryLock(t.Context(), "l", "owner", time.Minute)
		token = got.Token
		return got.Lease, err
	})
	during(func() (time.Duration, error) { return f.Renew(t.Context(), "l", token, time.Minute) })
}
