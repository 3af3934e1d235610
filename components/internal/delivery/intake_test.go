package delivery_test

import (
	"errors"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/delivery"
)

func TestIntake(t *testing.T) {
	in := delivery.NewIntake[string](time.Minute)
	begin := func(want int) (over func() bool) {
		t.Helper()
		ctx, room, more := in.Begin(t.Context())
		if !more || room.Messages != want {
			t.Fatalf("a fetch asks for %d, %v; want %d", room.Messages, more, want)
		}
		return func() bool { return ctx.Err() != nil }
	}
	in.Changed() // no fetch is under way
	over := begin(0)
	if err := in.Grant(-1, 0); !errors.Is(err, components.ErrInvalid) || over() {
		t.Errorf("credit of -1: %v, interrupted %v", err, over())
	}
	if err := in.Grant(3, 0); err != nil || !over() {
		t.Errorf("credit of 3: %v, interrupted %v", err, over())
	}
	in.End()
	over = begin(3)
	in.Drain()
	if !over() {
		t.Error("a drain does not interrupt")
	}
	in.End()
	if _, _, more := in.Begin(t.Context()); more {
		t.Error("a drain is not told")
	}
	over = begin(0) // it waits for the end of the stream
	if err := in.Grant(5, 0); err != nil || over() || in.Room().Messages != 0 {
		t.Errorf("credit after a drain: %v, interrupted %v, room for %d", err, over(), in.Room().Messages)
	}
	in.End()
}

// A stream that is closed has an empty intake, and a fetch that ends then has nothing to end.
func TestIntakeOfAClosedStream(t *testing.T) {
	in := delivery.NewIntake[string](0)
	in.End()
	if _, _, more := in.Begin(t.Context()); !more {
		t.Error("it is drained")
	}
}
