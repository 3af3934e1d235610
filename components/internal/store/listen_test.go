package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
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
	stays  sync.Mutex // while it is held the handler does not return
}

var (
	talking = store.Bidi[entry, entered]{Name: "ledger/talk"}
	talks   = make(chan *talk, 1)
)

func converse(ctx context.Context, p store.Peer[entry, entered]) error {
	t := &talk{hears: make(chan string), heard: make(chan struct{}), end: make(chan error), cause: make(chan error, 1), result: make(chan error, 1)}
	talks <- t
	hear := func(in entry) {
		t.hears <- in.Key
		<-t.heard
	}
	var ends []context.CancelFunc
	over := context.Background()
	err := store.Listen(ctx, p, hear, func(ctx context.Context) error {
		for range 10_000 { // whoever ends the context is busy for a while after talk has seen it
			_, end := context.WithCancel(ctx)
			ends = append(ends, end)
		}
		select {
		case err := <-t.end:
			return err
		case <-ctx.Done(): // to ask for its cause would be to wait
			over = ctx
			return io.EOF
		}
	})
	t.cause <- context.Cause(over)
	t.result <- err
	t.stays.Lock()
	defer t.stays.Unlock()
	for _, end := range ends {
		end()
	}
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

// TestListenHearsTheEnd: that no more is said is no error, and the other side is told when the handler has done what it does then.
func TestListenHearsTheEnd(t *testing.T) {
	conversations(t, hearsTheEnd)
}

func hearsTheEnd(t *testing.T, s store.Stream[entry, entered], h *talk) {
	h.stays.Lock()
	release := sync.OnceFunc(h.stays.Unlock)
	defer release()
	close(h.heard)
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() {
		_, err := s.Recv()
		told <- err
	}()
	h.listened(t, nil)
	if cause := <-h.cause; !errors.Is(cause, io.EOF) {
		t.Errorf("talk ends because of %v", cause)
	}
	select {
	case err := <-told:
		t.Fatalf("the other side is told %v before the handler has returned", err)
	case <-time.After(2 * time.Millisecond):
	}
	release()
	if err := <-told; !errors.Is(err, io.EOF) {
		t.Errorf("the other side is told %v", err)
	}
}
