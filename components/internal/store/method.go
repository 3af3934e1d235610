package store

import (
	"context"
	"errors"
	"fmt"
	"io"
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
type Mux struct{ methods map[string]method }

// method is a handler as the own process calls it, and as another does: one of call and stream.
type method struct {
	local  any
	later  any // local for who must not wait; nil: there is no such way
	call   func(context.Context, []byte) ([]byte, error)
	stream func(context.Context, raw) error
}

// raw is a stream of messages that are encoded.
type raw interface {
	SendMsg(any) error
	RecvMsg(any) error
	finish(error)
}

func (m *Mux) add(name string, h method) {
	if m.methods == nil {
		m.methods = map[string]method{}
	}
	if _, taken := m.methods[name]; taken {
		panic("store: method " + name + " has two handlers")
	}
	m.methods[name] = h
}

// Handle says who answers a call.
func (u Unary[In, Out]) Handle(m *Mux, h func(context.Context, In) (Out, error)) {
	m.add(u.Name, method{local: h, call: func(ctx context.Context, message []byte) ([]byte, error) {
		var in In
		if err := decode(message, &in); err != nil {
			return nil, err
		}
		out, err := h(ctx, in)
		if err != nil {
			return nil, err
		}
		return encode(out)
	}})
}

// HandleLater says, after Handle, who answers a call of the own process that must not wait. done is called once, by any goroutine, and
// waits for nothing.
func (u Unary[In, Out]) HandleLater(m *Mux, h func(ctx context.Context, in In, done func(Out, error))) {
	with := m.methods[u.Name]
	with.later = h
	m.methods[u.Name] = with
}

// Handle says who serves a stream. It ends with the handler's error, and the handler's context ends when the other side has.
func (b Bidi[In, Out]) Handle(m *Mux, h func(context.Context, Peer[In, Out]) error) {
	m.add(b.Name, method{local: h, stream: func(ctx context.Context, r raw) error {
		return h(ctx, wired[In, Out]{ctx, r})
	}})
}

// Peer is a stream as its handler sees it. Recv answers io.EOF when the other side will send no more. A handler that goes on while it
// receives does so with Listen.
type Peer[In, Out any] interface {
	Recv() (In, error)
	Send(Out) error
	finish(error) // ends the stream as the handler's return would, so that a Recv under way ends
}

// Stream is one as the driver sees it. Recv answers io.EOF after the handler has returned nil, and its error otherwise; when the
// owner of the store has gone that is ErrUnavailable with STORE_OWNER_LOST, and the stream can be opened again. One
// goroutine may receive while another sends. Close ends it; it may be called more than once.
type Stream[In, Out any] interface {
	Send(In) error
	Recv() (Out, error)
	CloseSend() error
	Close()
}

// Call makes the call, wherever the machine is. While one process takes the store over from another it waits, for some seconds
// at most. What may have been done, and is not Safe, fails with STORE_OUTCOME_UNKNOWN when the owner goes during the call.
func (u Unary[In, Out]) Call(ctx context.Context, l *Link, in In) (out Out, err error) {
	var message []byte
	err = l.attempt(ctx, u.Safe, func(s *session) error {
		if s.machines != nil {
			h, ok := s.machines.mux.methods[u.Name].local.(func(context.Context, In) (Out, error))
			if !ok {
				return noMethod(u.Name)
			}
			out, err = h(ctx, in)
			return err
		}
		if message == nil {
			if message, err = encode(in); err != nil {
				return err
			}
		}
		answer, err := s.remote.call(ctx, u.Name, message)
		if err != nil {
			return err
		}
		return decode(answer, &out)
	})
	return out, err
}

func noMethod(name string) error {
	return fmt.Errorf("the store's owner has no method %s: it may be of another version", name)
}

// Open begins a stream, which ends with ctx.
func (b Bidi[In, Out]) Open(ctx context.Context, l *Link) (stream Stream[In, Out], err error) {
	err = l.attempt(ctx, true, func(s *session) error {
		stream, err = b.open(ctx, s)
		return err
	})
	return stream, err
}

func (b Bidi[In, Out]) open(ctx context.Context, s *session) (Stream[In, Out], error) {
	if s.machines == nil {
		return openRemote[In, Out](ctx, s.remote, b.Name)
	}
	h, ok := s.machines.mux.methods[b.Name].local.(func(context.Context, Peer[In, Out]) error)
	if !ok {
		return nil, noMethod(b.Name)
	}
	if !s.begin() {
		return nil, errNotBegun
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.serving, func() { cancel(errLost) })
	p := &pipe[In, Out]{ctx: ctx, cancel: cancel, in: make(chan In, pipeLength), out: make(chan Out, pipeLength), done: make(chan struct{})}
	go func() {
		defer s.end()
		defer stop()
		p.finish(h(ctx, peer[In, Out]{p}))
	}()
	return p, nil
}

// wired is a Peer in another process.
type wired[In, Out any] struct {
	ctx context.Context
	raw
}

func (w wired[In, Out]) Recv() (m In, err error) {
	var b []byte
	if err := w.RecvMsg(&b); err != nil {
		if errors.Is(err, io.EOF) {
			return m, io.EOF
		}
		return m, errors.Join(err, context.Cause(w.ctx))
	}
	return m, decode(b, &m)
}

func (w wired[In, Out]) Send(m Out) error {
	b, err := encode(m)
	if err != nil {
		return err
	}
	return w.SendMsg(&b)
}
