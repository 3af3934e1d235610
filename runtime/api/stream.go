package api

import (
	"context"
	"sync"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Stream puts g around a stream handler that belongs to no service. Services have it from Around.
func (g *Guard) Stream(op string, h grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, ss grpc.ServerStream) (err error) {
		ctx, cancel := g.lasting(ss.Context())
		s := &stream{ServerStream: ss, g: g, ctx: ctx}
		var span telemetry.Span
		defer func() {
			if p := recover(); p != nil {
				err = g.panicked(ctx, op, p)
			} else if err != nil {
				err = g.failed(ctx, op, err)
			}
			endSpan(span, err)
			cancel(nil)
			s.hold(0, true)
		}()
		lookup := func(name string) string { return header(ctx, name) }
		if err = admit(ctx, lookup); err != nil {
			return err
		}
		s.ctx, span = g.trace(ctx, op, lookup)
		return h(srv, s)
	}
}

// lasting is a context that ends early, and with g.Ending, then with its cause.
func (g *Guard) lasting(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	calm := early(ctx, cancel)
	if g.Ending == nil {
		return ctx, func(cause error) { calm(); cancel(cause) }
	}
	stop := context.AfterFunc(g.Ending, func() { cancel(context.Cause(g.Ending)) })
	return ctx, func(cause error) { calm(); stop(); cancel(cause) }
}

// stream holds in the budget the last message that was received, until the next one or the end. A handler may have returned while
// another goroutine of its own still receives.
type stream struct {
	grpc.ServerStream
	g   *Guard
	ctx context.Context

	mu   sync.Mutex
	held int64
	over bool
}

// hold puts n bytes in the place of those that were held.
func (s *stream) hold(n int64, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.g.Budget.Leave(s.held)
	s.held, s.over = n, s.over || over
	if s.over {
		s.g.Budget.Leave(n)
		s.held = 0
	}
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) RecvMsg(m any) error {
	s.hold(0, false)
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	n, err := s.g.enter(m)
	s.hold(n, false)
	return err
}

func (s *stream) SendMsg(m any) error {
	if _, err := s.g.size(m, "answer"); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

// header is the first value of a name in the request's metadata, on either engine.
func header(ctx context.Context, name string) string {
	if call := grpcproxy.FromContext(ctx); call != nil {
		return call.Metadata(name)
	}
	if values := metadata.ValueFromIncomingContext(ctx, name); len(values) > 0 {
		return values[0]
	}
	return ""
}
