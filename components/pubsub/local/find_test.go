package local

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
)

// TestATopicThatIsBeingMadeHoldsUpNoOther has the disk take its time with the one.
func TestATopicThatIsBeingMadeHoldsUpNoOther(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	r.send("known", "", 1)
	slow := r.place(address{"default", "ns", "slow"})
	slow.turn <- struct{}{}
	r.send("known", "", 1)
	r.send("new", "", 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := r.publish(ctx, publications("slow", "", 1))
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("who waits for it answers %v when its caller has gone", err)
	}
	<-slow.turn
	r.send("slow", "", 1)
}

func TestAPublicationWithoutAnEventIsRefused(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	in := publications("t", "", 1)
	in.Events[0].Event = nil
	if _, err := r.publish(t.Context(), in); !errors.Is(err, components.ErrInvalid) {
		t.Errorf("%v, want that it is invalid", err)
	}
}
