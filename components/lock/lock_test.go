package lock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

func hasReason(err error, reason components.Reason) bool {
	var d *components.Detail
	return errors.As(err, &d) && d.Reason == reason
}

func TestBadArgumentsDoNotReachTheDriver(t *testing.T) {
	d := newFake()
	l, _ := front(d)
	for what, r := range map[string]lock.Request{
		"no name": {}, "a long name": {Name: strings.Repeat("l", 1025)}, "a name with NUL": {Name: "a\x00"},
		"a long owner": {Name: "l", Owner: strings.Repeat("o", 1025)}, "an owner that is not UTF-8": {Name: "l", Owner: "\xff"},
		"a short lease": {Name: "l", Lease: 99 * time.Millisecond}, "a negative lease": {Name: "l", Lease: -1}, "a long lease": {Name: "l", Lease: 25 * time.Hour},
	} {
		_, try := l.TryLock(t.Context(), app, r)
		_, wait := l.Lock(t.Context(), app, r)
		for op, err := range map[string]error{"try lock": try, "lock": wait, "hold": l.Hold(t.Context(), app, lock.Hold{Request: r})} {
			if !errors.Is(err, components.ErrInvalid) || !strings.Contains(err.Error(), `lock "default"`) {
				t.Errorf("%s with %s: %v", op, what, err)
			}
		}
	}
	_, noToken := l.Renew(t.Context(), app, "l", 0, 0)
	_, badLease := l.Renew(t.Context(), app, "l", 1, time.Millisecond)
	for _, err := range []error{noToken, badLease, l.Unlock(t.Context(), app, "l", 0), l.Unlock(t.Context(), app, "", 1)} {
		if !errors.Is(err, components.ErrInvalid) {
			t.Errorf("%v, want ErrInvalid", err)
		}
	}
	if d.calls != 0 {
		t.Errorf("the driver was called %d times", d.calls)
	}
}

func TestNamelessOwnersAreDifferent(t *testing.T) {
	l, _ := front(newFake())
	if _, err := l.TryLock(t.Context(), app, lock.Request{Name: "l"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.TryLock(t.Context(), app, lock.Request{Name: "l"}); !hasReason(err, lock.ReasonHeld) {
		t.Errorf("%v, want LOCK_HELD", err)
	}
}

func TestWhatIsTakenForNobodyIsFreed(t *testing.T) {
	for owner, holds := range map[string]bool{"": false, "a": true} { // an owner with a name may have it by another call
		d := newFake()
		l, _ := front(d)
		for op, take := range map[string]func(context.Context, components.Caller, lock.Request) (lock.Lease, error){"try lock": l.TryLock, "lock": l.Lock} {
			ctx, cancel := context.WithCancel(t.Context())
			d.set(func() { d.during = cancel })
			if got, err := take(ctx, app, lock.Request{Name: "l", Owner: owner}); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %+v, %v", op, got, err)
			}
			if held := d.holder() != 0; held != holds {
				t.Errorf("%s by %q, who has gone: held %v", op, owner, held)
			}
		}
	}
}

func TestLockWaitsWithADriverThatCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		l, _ := front(d)
		began := time.Now()
		if _, err := l.TryLock(t.Context(), app, lock.Request{Name: "l", Lease: time.Minute}); err != nil {
			t.Fatal(err)
		}
		got, err := l.Lock(t.Context(), app, lock.Request{Name: "l"})
		if passed := time.Since(began); err != nil || got.Token != 2 || passed < time.Minute || passed > time.Minute+10*time.Millisecond {
			t.Errorf("%+v, %v after %v", got, err, passed)
		}
		if d.calls > 200 {
			t.Errorf("the driver was asked %d times in a minute", d.calls)
		}
	})
}

func TestLockAnswersJustBeforeItsDeadline(t *testing.T) {
	for _, limit := range []time.Duration{40 * time.Millisecond, time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			l, _ := front(newFake())
			if _, err := l.TryLock(t.Context(), app, lock.Request{Name: "l", Lease: time.Hour}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err := l.Lock(ctx, app, lock.Request{Name: "l"})
			if !errors.Is(err, context.DeadlineExceeded) || !hasReason(err, lock.ReasonHeld) || ctx.Err() != nil {
				t.Errorf("%v; the context: %v", err, ctx.Err())
			}
			if left := time.Until(deadline(ctx)); left > 60*time.Millisecond || left < limit/20 && left < 25*time.Millisecond {
				t.Errorf("of %v %v were left", limit, left)
			}
		})
	}
}

func deadline(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}

func TestLockGoesOnWithTheNextDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		l, c := front(d)
		if _, err := l.TryLock(t.Context(), app, lock.Request{Name: "l", Lease: time.Hour}); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() { c.Set(newFake()) })
		got, err := l.Lock(t.Context(), app, lock.Request{Name: "l"})
		if err != nil || got.Token != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		c.Clear(errors.New("gone"))
		if _, err := l.Lock(t.Context(), app, lock.Request{Name: "l"}); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("without a driver: %v", err)
		}
	})
}
