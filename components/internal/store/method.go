package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Unary is a call that drivers make of their machine. In and Out are plain structs of exported fields, which another version
// of them may lack or have more of. Within one process they are passed as they are: what goes in is lent until the call has
// returned, what comes out is the caller's.
type Unary[In, Out any] struct {
	Name string // CAPABILITY/METHOD
	// Safe is one that may be made again when it is not known whether it was done.
	Safe bool
}

// Bidi is a stream of messages both ways between a driver and its machine.
type Bidi[In, Out any] struct{ Name string }

// Mux is where a machine says what it handles.
type Mux struct{ methods map[string]any }

func (m *Mux) add(name string, h any) {
	if m.methods == nil {
		m.methods = map[string]any{}
	}
	if _, taken := m.methods[name]; taken {
		panic("store: method " + name + " has two handlers")
	}
	m.methods[name] = h
}

// Handle says who answers a call.
func (u Unary[In, Out]) Handle(m *Mux, h func(context.Context, In) (Out, error)) { m.add(u.Name, h) }

// Handle says who serves a stream. It ends with the handler's error, and the handler's context ends when the other side has.
func (b Bidi[In, Out]) Handle(m *Mux, h func(context.Context, Peer[In, Out]) error) { m.add(b.Name, h) }

// Peer is a stream as its handler sees it. Recv answers io.EOF when the other side will send no more. One goroutine may
// receive while another sends.
type Peer[In, Out any] interface {
	Recv() (In, error)
	Send(Out) error
}

// Stream is one as the driver sees it. Recv answers io.EOF after the handler has returned nil, and its error otherwise. One
// goroutine may receive while another sends. Close ends it; it may be called more than once.
type Stream[In, Out any] interface {
	Send(In) error
	Recv() (Out, error)
	CloseSend() error
	Close()
}

// Call makes the call, wherever the machine is.
func (u Unary[In, Out]) Call(ctx context.Context, l *Link, in In) (out Out, err error) {
	h, ok := l.machines.mux.methods[u.Name].(func(context.Context, In) (Out, error))
	if !ok {
		return out, fmt.Errorf("the store has no method %s", u.Name)
	}
	return h(ctx, in)
}

// Open begins a stream, which ends with ctx.
func (b Bidi[In, Out]) Open(ctx context.Context, l *Link) (Stream[In, Out], error) {
	h, ok := l.machines.mux.methods[b.Name].(func(context.Context, Peer[In, Out]) error)
	if !ok {
		return nil, fmt.Errorf("the store has no stream %s", b.Name)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := &pipe[In, Out]{ctx: ctx, cancel: cancel, in: make(chan In, pipeLength), out: make(chan Out, pipeLength), done: make(chan struct{})}
	go func() {
		s.err = h(ctx, peer[In, Out]{s})
		close(s.done)
	}()
	return s, nil
}

const pipeLength = 64

// pipe is a Stream within the process.
type pipe[In, Out any] struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	in     chan In
	out    chan Out
	half   sync.Once
	done   chan struct{} // closed when the handler has returned
	err    error         // what it returned
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
	if s.err != nil {
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

type peer[In, Out any] struct{ s *pipe[In, Out] }

func (p peer[In, Out]) Recv() (m In, err error) {
	select {
	case m, ok := <-p.s.in:
		if !ok {
			return m, io.EOF
		}
		return m, nil
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
