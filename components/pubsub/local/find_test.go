package local

import (
	"context"
	"errors"
	"fmt"
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

// TestTopicsThatCannotBeMadeTakeNoMemory: they have any name that a caller thinks of.
func TestTopicsThatCannotBeMadeTakeNoMemory(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	r.send("kept", "", 1)
	r.send("later", "", 1)
	key := address{"default", "ns", "later"}.key()
	r.restart(key)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 100 {
		if _, err := r.publish(gone, publications(fmt.Sprint("t", i), "", 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("whose caller has gone: %v", err)
		}
	}
	if _, err := r.publish(t.Context(), publications("later", "", 1)); err == nil {
		t.Error("a record of a later format is read")
	}
	if err := r.retire(t.Context(), address{"default", "ns", "never made"}); err != nil {
		t.Error(err)
	}
	r.send("kept", "", 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	for a, p := range r.places {
		if p.topic.Load() == nil {
			t.Errorf("the place of %s is kept", a)
		}
	}
	if r.places[address{"default", "ns", "kept"}] == nil {
		t.Error("the topic that is there has no place")
	}
}
