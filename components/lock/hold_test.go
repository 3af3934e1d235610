package lock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

// holding is a Hold of the lock "l" in the background.
type holding struct {
	beats, draining chan struct{}
	events          chan lock.Event
	last            lock.Lease
	ended           chan error
}

func hold(ctx context.Context, l *lock.Lock, lease time.Duration, wait bool) *holding {
	h := &holding{beats: make(chan struct{}), draining: make(chan struct{}), events: make(chan lock.Event, 100), ended: make(chan error, 1)}
	go func() {
		h.ended <- l.Hold(ctx, app, lock.Hold{Request: lock.Request{Name: "l", Lease: lease}, Wait: wait, Heartbeats: h.beats, Draining: h.draining,
			Tell: func(e lock.Event, l lock.Lease) error { h.events <- e; h.last = l; return nil }})
	}()
	synctest.Wait()
	return h
}

func (h *holding) told(t *testing.T, want lock.Event) {
	t.Helper()
	select {
	case got := <-h.events:
		if got != want {
			t.Errorf("told %d, want %d", got, want)
		}
	default:
		t.Errorf("told nothing, want %d", want)
	}
}

func TestAHoldLastsAsLongAsItsHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		l, _ := front(d)
		h := hold(t.Context(), l, time.Minute, false)
		h.told(t, lock.Taken)
		for range 10 {
			time.Sleep(59 * time.Second)
			h.beats <- struct{}{}
			synctest.Wait()
			h.told(t, lock.Renewed)
		}
		began := time.Now()
		err := <-h.ended
		if passed := time.Since(began); !hasReason(err, lock.ReasonLost) || passed != time.Minute {
			t.Errorf("%v after %v", err, passed)
		}
	})
}

func TestAHoldFreesItsLock(t *testing.T) {
	for how, end := range map[string]func(h *holding, cancel context.CancelFunc, c *components.Component[lock.Driver]){
		"the holder leaves": func(h *holding, _ context.CancelFunc, _ *components.Component[lock.Driver]) { close(h.beats) },
		"its context ends":  func(_ *holding, cancel context.CancelFunc, _ *components.Component[lock.Driver]) { cancel() },
		"a reload":          func(_ *holding, _ context.CancelFunc, c *components.Component[lock.Driver]) { c.Set(newFake()) },
	} {
		for _, waiting := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				d := newFake()
				l, c := front(d)
				if waiting {
					if _, err := l.TryLock(t.Context(), app, lock.Request{Name: "l", Lease: time.Hour}); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				h := hold(ctx, l, time.Minute, true)
				end(h, cancel, c)
				synctest.Wait()
				select {
				case err := <-h.ended:
					if how == "the holder leaves" && err != nil || how == "its context ends" && !errors.Is(err, context.Canceled) ||
						how == "a reload" && !hasReason(err, components.ReasonReloaded) {
						t.Errorf("%s, waiting %v: %v", how, waiting, err)
					}
				default:
					t.Fatalf("%s, waiting %v: it does not end", how, waiting)
				}
				if token := d.holder(); waiting != (token == 1) || token > 1 {
					t.Errorf("%s, waiting %v: token %d has the lock", how, waiting, token)
				}
			})
		}
	}
}

func TestAHoldOutlivesAnOutageOfItsStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		l, _ := front(d)
		h := hold(t.Context(), l, time.Minute, false)
		h.told(t, lock.Taken)
		d.set(func() { d.away = components.ErrUnavailable })
		time.Sleep(30 * time.Second)
		h.beats <- struct{}{}
		synctest.Wait()
		if h.told(t, lock.Renewed); h.last.Lease != 30*time.Second {
			t.Errorf("a heartbeat that could renew nothing was answered with a lease of %v", h.last.Lease)
		}
		d.set(func() { d.away = nil })
		time.Sleep(20 * time.Second)
		h.beats <- struct{}{}
		synctest.Wait()
		h.told(t, lock.Renewed)
		d.set(func() { d.away = components.ErrExhausted })
		time.Sleep(50 * time.Second)
		h.beats <- struct{}{} // it does not count
		began := time.Now()
		if err := <-h.ended; !hasReason(err, lock.ReasonLost) || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestAHoldIsToldOfDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		l, _ := front(d)
		h := hold(t.Context(), l, time.Minute, false)
		waits := hold(t.Context(), l, time.Minute, true)
		h.told(t, lock.Taken)
		close(h.draining)
		close(waits.draining)
		synctest.Wait()
		h.told(t, lock.Draining)
		waits.told(t, lock.Draining)
		close(h.beats)
		if err := <-h.ended; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		waits.told(t, lock.Taken) // it goes on
		close(waits.beats)
		if err := <-waits.ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAHoldEndsWhenNobodyCanBeTold(t *testing.T) {
	broken := errors.New("broken")
	d := newFake()
	l, _ := front(d)
	err := l.Hold(t.Context(), app, lock.Hold{Request: lock.Request{Name: "l"}, Tell: func(lock.Event, lock.Lease) error { return broken }})
	if !errors.Is(err, broken) || d.holder() != 0 {
		t.Errorf("%v, held %v", err, d.holder() != 0)
	}
}

func TestAFrozenDriverDoesNotLengthenALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := front(frozen{newFake()})
		h := hold(t.Context(), l, time.Minute, false)
		h.told(t, lock.Taken)
		time.Sleep(50 * time.Second)
		h.beats <- struct{}{}
		began := time.Now()
		if err := <-h.ended; !hasReason(err, lock.ReasonLost) || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// frozen answers no Renew.
type frozen struct{ *fake }

func (frozen) Renew(ctx context.Context, _ string, _ uint64, _ time.Duration) (time.Duration, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}
