package delivery_test

import (
	"errors"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/delivery"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func ledger(t *testing.T, messages, bytes int64) *delivery.Ledger[string] {
	t.Helper()
	l := delivery.NewLedger[string](time.Minute)
	if err := l.Grant(messages, bytes); err != nil {
		t.Fatal(err)
	}
	return l
}

func deliver(t *testing.T, l *delivery.Ledger[string], value string, size int64, at time.Time) string {
	t.Helper()
	id, ok := l.Deliver(value, size, at)
	if !ok {
		t.Fatalf("there is no room for %q", value)
	}
	return id
}

func TestCreditIsExact(t *testing.T) {
	l := ledger(t, 2, 10)
	deliver(t, l, "a", 6, start)
	if _, ok := l.Deliver("b", 5, start); ok {
		t.Error("more bytes than there is credit for")
	}
	if r := l.Room(); r != (delivery.Room{}) {
		t.Errorf("the room is %v for what needs more", r)
	}
	if err := l.Grant(0, 1); err != nil {
		t.Fatal(err)
	}
	id := deliver(t, l, "b", 5, start)
	if _, ok := l.Deliver("c", 0, start); ok {
		t.Error("more messages than there is credit for")
	}
	if _, ok := l.Take(id); !ok {
		t.Error("it cannot be settled")
	}
	if _, ok := l.Deliver("c", 0, start); ok {
		t.Error("what is settled gives credit")
	}
	if err := l.Grant(2, 0); err != nil {
		t.Fatal(err)
	}
	deliver(t, l, "large", 1<<20, start)
	if err := l.Grant(0, 0); err != nil || l.Room() != (delivery.Room{}) {
		t.Errorf("a pause leaves %v, %v", l.Room(), err)
	}
	for _, bad := range [][2]int64{{-1, 0}, {0, -1}} {
		if err := l.Grant(bad[0], bad[1]); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("credit of %v: %v", bad, err)
		}
	}
	for range 3 { // it does not overflow
		if err := l.Grant(1<<62, 1<<62); err != nil || l.Room().Messages <= 0 {
			t.Errorf("%v, %v", l.Room(), err)
		}
	}
}

func TestWhatAStreamHoldsIsBounded(t *testing.T) {
	l := ledger(t, 1<<40, 0)
	n := 0
	for ; n < 1<<20; n++ {
		if _, ok := l.Deliver("x", 1, start); !ok {
			break
		}
	}
	if n != 16<<10 || l.Held() != n {
		t.Errorf("%d are held", n)
	}
	l = ledger(t, 1<<40, 0)
	deliver(t, l, "x", 32<<20, start)
	if _, ok := l.Deliver("y", 1, start); ok {
		t.Error("more than 32 MiB are held")
	}
}

// TestWhatIsReservedTakesItsPlace is about what takes room without being delivered.
func TestWhatIsReservedTakesItsPlace(t *testing.T) {
	l := ledger(t, 1<<40, 0)
	l.Reserve(32 << 20)
	if _, ok := l.Deliver("x", 1, start); ok || l.Held() != 0 {
		t.Errorf("delivered: %v, %d are held; want no room, and no delivery", ok, l.Held())
	}
	l.Release(32 << 20)
	l.Forget()
	deliver(t, l, "x", 1, start)
	l = ledger(t, 1<<40, 0)
	for range 16 << 10 {
		l.Reserve(0)
	}
	if r := l.Room(); r != (delivery.Room{}) {
		t.Errorf("the room is %v beside as many as may be held", r)
	}
}

// TestWhatDidNotFitIsForgotten has somebody else take it.
func TestWhatDidNotFitIsForgotten(t *testing.T) {
	l := ledger(t, 10, 10)
	if l.Forget() {
		t.Error("nothing had not fit")
	}
	if _, ok := l.Deliver("large", 11, start); ok {
		t.Fatal("it fits")
	}
	if _, ok := l.Deliver("small", 1, start); ok {
		t.Error("what is behind it passes it by")
	}
	if !l.Forget() || l.Forget() {
		t.Error("it did not fit, once")
	}
	deliver(t, l, "small", 1, start)
}

func TestDeadlines(t *testing.T) {
	l := ledger(t, 10, 0)
	a := deliver(t, l, "a", 1, start)
	b := deliver(t, l, "b", 1, start.Add(time.Second))
	deliver(t, l, "c", 1, start.Add(2*time.Second))
	if _, ok := l.Extend(a, start.Add(30*time.Second)); !ok {
		t.Error("it cannot be extended")
	}
	if v, ok := l.Take(b); v != "b" || !ok {
		t.Errorf("%q, %v", v, ok)
	}
	if _, ok := l.Take(b); ok {
		t.Error("it is settled twice")
	}
	over, next := l.Expire(start.Add(61 * time.Second))
	if len(over) != 0 || !next.Equal(start.Add(62*time.Second)) {
		t.Errorf("%q are over, next %v", over, next)
	}
	over, next = l.Expire(start.Add(62 * time.Second))
	if len(over) != 1 || over[0] != "c" || !next.Equal(start.Add(90*time.Second)) {
		t.Errorf("%q are over, next %v", over, next)
	}
	over, next = l.Expire(start.Add(time.Hour))
	if len(over) != 1 || over[0] != "a" || !next.IsZero() || l.Held() != 0 {
		t.Errorf("%q are over, next %v", over, next)
	}
	if _, ok := l.Extend(a, start); ok {
		t.Error("what is over is extended")
	}
}

func TestIdsMeanNothingElsewhere(t *testing.T) {
	a, b := ledger(t, 1, 0), ledger(t, 1, 0)
	id := deliver(t, a, "a", 1, start)
	deliver(t, b, "b", 1, start)
	if _, ok := b.Take(id); ok {
		t.Error("an id of one stream settles what another has")
	}
	if v, ok := a.Get(id); v != "a" || !ok {
		t.Errorf("%q, %v", v, ok)
	}
}
