package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
)

// talk is a stream under way: its handler hears a message when the test takes it, and talks until the test says how to end.
type talk struct {
	hears  chan string   // when it begins to
	heard  chan struct{} // when it is to be done
	end    chan error
	cause  chan error // of the end of talk's context
	result chan error // of Listen
}

var (
	talking = store.Bidi[entry, entered]{Name: "ledger/talk"}
	talks   = make(chan *talk, 1)
)

func converse(ctx context.Context, p store.Peer[entry, entered]) error {
	t := &talk{make(chan string), make(chan struct{}), make(chan error), make(chan error, 1), make(chan error, 1)}
	talks <- t
	hear := func(in entry) {
		t.hears <- in.Key
		<-t.heard
	}
	err := store.Listen(ctx, p, hear, func(ctx context.Context) error {
		select {
		case err := <-t.end:
			return err
		case <-ctx.Done():
			t.cause <- context.Cause(ctx)
			return context.Cause(ctx)
		}
	})
	t.result <- err
	return err
}

// conversations have a handler in this process, once called in it and once over the socket. It hears a message already.
func conversations(t *testing.T, run func(t *testing.T, s store.Stream[entry, entered], h *talk)) {
	for _, where := range []string{"here", "over the socket"} {
		t.Run(where, func(t *testing.T) {
			dir := t.TempDir()
			l := join(t, dir)
			if where != "here" {
				l = join(t, dir) // nothing is shared
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			s, err := talking.Open(ctx, l)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Send(entry{"hello"}); err != nil {
				t.Fatal(err)
			}
			h := <-talks
			if got := <-h.hears; got != "hello" {
				t.Fatalf("heard %q", got)
			}
			run(t, s, h)
		})
	}
}

func (h *talk) listened(t *testing.T, want error) {
	t.Helper()
	select {
	case err := <-h.result:
		if !errors.Is(err, want) {
			t.Errorf("Listen answers %v, want %v", err, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Listen does not return")
	}
}

// TestListenEndsWithItsTalk, though the other side is there and says nothing; but not before it is done with what it hears.
func TestListenEndsWithItsTalk(t *testing.T) {
	conversations(t, func(t *testing.T, s store.Stream[entry, entered], h *talk) {
		h.end <- fmt.Errorf("%w: enough", components.ErrConflict)
		if _, err := s.Recv(); !errors.Is(err, components.ErrConflict) {
			t.Errorf("the other side is told %v", err)
		}
		select {
		case err := <-h.result:
			t.Fatalf("Listen answers %v while it hears", err)
		case <-time.After(50 * time.Millisecond):
		}
		close(h.heard)
		h.listened(t, components.ErrConflict)
	})
}

// TestListenHearsTheEnd: that no more is said is no error.
func TestListenHearsTheEnd(t *testing.T) {
	conversations(t, func(t *testing.T, s store.Stream[entry, entered], h *talk) {
		close(h.heard)
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the other side is told %v", err)
		}
		if cause := <-h.cause; !errors.Is(cause, io.EOF) {
			t.Errorf("talk ends because of %v", cause)
		}
		h.listened(t, nil)
	})
}
