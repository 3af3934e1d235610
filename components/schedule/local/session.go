package local

import (
	"context"
	"fmt"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// session is the driver's end of a watch.
type session struct {
	stream  store.Stream[watchIn, watchOut]
	sending sync.Mutex
	silent  bool          // all has been said; under sending
	done    chan struct{} // closed when the machine will say no more
	err     error         // why, set before

	mu       sync.Mutex
	turn     uint64
	waiting  bool   // for the answer to that turn
	answered uint64 // the turn whose firings Fetch has answered last
	answer   chan []schedule.Firing
}

// Watch joins the application's sessions.
func (d *driver) Watch(ctx context.Context, w schedule.Watching) (schedule.Session, error) {
	stream, err := watchCall.Open(context.WithoutCancel(ctx), d.Link)
	if err != nil {
		return nil, err
	}
	s := &session{stream: stream, done: make(chan struct{}), answer: make(chan []schedule.Firing, 1)}
	joined := make(chan struct{})
	go s.read(joined)
	if err := s.send(watchIn{Start: &start{Application: d.name + w.Application, Prefix: w.Prefix, Term: w.AckDeadline}}); err == nil {
		select {
		case <-joined:
			return s, nil
		case <-s.done:
		case <-ctx.Done():
		}
	}
	stream.Close()
	<-s.done
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, s.err
}

// send says nothing once the session is being closed: then the machine takes back by itself what is left.
func (s *session) send(in watchIn) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.silent {
		return nil
	}
	return s.stream.Send(in)
}

func (s *session) closeSend() error {
	s.mu.Lock()
	end := watchIn{Last: &last{Turn: s.answered}}
	s.mu.Unlock()
	s.sending.Lock()
	defer s.sending.Unlock()
	s.silent = true
	_ = s.stream.Send(end) // a stream that was lost is at its end already
	return s.stream.CloseSend()
}

// read takes what the machine says until it ends. joined is closed when the session is there.
func (s *session) read(joined chan<- struct{}) {
	defer close(s.done)
	_, err := s.stream.Recv()
	if err == nil {
		close(joined)
	}
	for err == nil {
		var out watchOut
		if out, err = s.stream.Recv(); err == nil {
			err = s.take(out)
		}
	}
	s.err = fmt.Errorf("%w: the watch has ended: %w", components.ErrUnavailable, err)
}

// take hands firings to who waits for them. What nobody waits for any more goes back.
func (s *session) take(out watchOut) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting && out.Turn == s.turn {
		s.waiting = false
		s.answer <- out.Firings
		return nil
	}
	return s.giveBack(out.Firings)
}

func (s *session) giveBack(firings []schedule.Firing) error {
	back := make([]schedule.Settlement, len(firings))
	for i, f := range firings {
		back[i] = schedule.Settlement{Position: f.Position, Outcome: schedule.Returned}
	}
	return s.send(watchIn{Settle: back})
}

func (s *session) Fetch(ctx context.Context, room schedule.Room) ([]schedule.Firing, error) {
	s.mu.Lock()
	s.turn++
	s.waiting = true
	turn := s.turn
	s.mu.Unlock()
	if err := s.send(watchIn{Wanted: &wanted{Turn: turn, Room: room}}); err != nil {
		<-s.done
		return nil, s.err
	}
	select {
	case firings := <-s.answer:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.answered = turn
		return firings, nil
	case <-ctx.Done():
		return nil, s.withdraw(ctx)
	case <-s.done:
		return nil, s.err
	}
}

// withdraw ends a Fetch whose caller has gone: nothing is wanted any more, and what was on its way goes back.
func (s *session) withdraw(ctx context.Context) error {
	s.mu.Lock()
	s.waiting = false
	var late []schedule.Firing
	select {
	case late = <-s.answer:
	default:
	}
	s.mu.Unlock()
	err := s.send(watchIn{Wanted: &wanted{}})
	if err == nil && len(late) > 0 {
		err = s.giveBack(late)
	}
	if err != nil {
		<-s.done
		return s.err
	}
	return ctx.Err()
}

func (s *session) Settle(_ context.Context, all []schedule.Settlement) error {
	if err := s.send(watchIn{Settle: all}); err != nil {
		<-s.done
		return s.err
	}
	return nil
}

// Close lets the machine finish what it was told, and say so.
func (s *session) Close(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.stream.Close)
	err := s.closeSend()
	<-s.done
	if !stop() {
		err = ctx.Err()
	}
	s.stream.Close()
	return err
}
