package store

import (
	"context"
	"errors"
	"io"
	"sync"
)

const pipeLength = 64

// pipe is a Stream within the process.
type pipe[In, Out any] struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	in     chan In
	out    chan Out
	half   sync.Once
	over   sync.Once
	done   chan struct{} // closed when the handler has returned, or is about to
	err    error         // what it returns
}

var errStreamClosed = errors.New("the stream is closed")

func (s *pipe[In, Out]) Send(m In) error {
	select {
	case s.in <- m:
		return nil
	case <-s.done:
		return io.EOF
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (s *pipe[In, Out]) Recv() (m Out, err error) {
	select {
	case m = <-s.out:
		return m, nil
	case <-s.done:
	case <-s.ctx.Done():
		return m, context.Cause(s.ctx)
	}
	select { // what it sent before it returned
	case m = <-s.out:
		return m, nil
	default:
	}
	switch {
	case s.err != nil && s.ctx.Err() != nil:
		return m, context.Cause(s.ctx) // says why better than what the handler made of it
	case s.err != nil:
		return m, s.err
	}
	return m, io.EOF
}

func (s *pipe[In, Out]) CloseSend() error {
	s.half.Do(func() { close(s.in) })
	return nil
}

func (s *pipe[In, Out]) Close() {
	s.cancel(errStreamClosed)
	<-s.done
}

func (s *pipe[In, Out]) finish(err error) {
	s.over.Do(func() {
		s.err = err
		close(s.done)
	})
}

type peer[In, Out any] struct{ s *pipe[In, Out] }

func (p peer[In, Out]) finish(err error) { p.s.finish(err) }

func (p peer[In, Out]) Recv() (m In, err error) {
	select {
	case m, ok := <-p.s.in:
		if !ok {
			return m, io.EOF
		}
		return m, nil
	case <-p.s.done:
		return m, errStreamClosed
	case <-p.s.ctx.Done():
		return m, context.Cause(p.s.ctx)
	}
}

func (p peer[In, Out]) Send(m Out) error {
	select {
	case p.s.out <- m:
		return nil
	case <-p.s.ctx.Done():
		return context.Cause(p.s.ctx)
	}
}
