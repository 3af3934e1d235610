package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Guard stands around each method of the services that are registered through it: it admits the caller, holds messages and
// requests in flight to their limits, makes of errors what Status says, of a panic INTERNAL, and of a sampled call a span. It
// wraps the services rather than being an interceptor of one engine, so both engines have it, decoding is within it, and a
// call that is not sampled costs it no allocation.
type Guard struct {
	MaxMessage int     // bytes of a request or an answer
	Budget     *Budget // of requests in flight; nil: no limit
	Logger     *slog.Logger
	Tracer     *telemetry.Tracer // nil: no spans
	Ending     context.Context   // when it ends, streams end with its cause; nil: never

	underWay atomic.Int64
}

// UnderWay is how many unary calls are with their methods now, whichever front-end they came through; those that end within their
// connection's reader, at once, are not seen. Safe for concurrent use.
func (g *Guard) UnderWay() int64 { return g.underWay.Load() }

// Around answers a registrar that puts g around each method before s gets it.
func (g *Guard) Around(s grpc.ServiceRegistrar) grpc.ServiceRegistrar { return guarded{g, s} }

type guarded struct {
	g *Guard
	s grpc.ServiceRegistrar
}

func (r guarded) RegisterService(d *grpc.ServiceDesc, impl any) {
	own := *d
	own.Methods = make([]grpc.MethodDesc, len(d.Methods))
	for i, m := range d.Methods {
		m.Handler = r.g.unary("/"+d.ServiceName+"/"+m.MethodName, m.Handler)
		own.Methods[i] = m
	}
	own.Streams = make([]grpc.StreamDesc, len(d.Streams))
	for i, s := range d.Streams {
		s.Handler = r.g.Stream("/"+d.ServiceName+"/"+s.StreamName, s.Handler)
		own.Streams[i] = s
	}
	r.s.RegisterService(&own, impl)
}

// request is one unary call within the guard.
type request struct {
	g    *Guard
	op   string
	ctx  context.Context
	read func(any) error
	held int64
	seen bool // in UnderWay
	span telemetry.Span

	decode func(any) error // message and header, bound once
	lookup func(name string) string
}

var requests = sync.Pool{New: func() any {
	r := new(request)
	r.decode, r.lookup = r.message, r.header
	return r
}}

func (g *Guard) unary(op string, h grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, read func(any) error, next grpc.UnaryServerInterceptor) (answer any, err error) {
		r := requests.Get().(*request)
		r.g, r.op, r.ctx, r.read = g, op, ctx, read
		if r.seen = fastgrpc.MayWait(ctx); r.seen {
			g.underWay.Add(1)
		}
		defer r.end(&answer, &err)
		if next == nil {
			if err = admit(ctx, r.lookup); err != nil {
				return nil, err
			}
			ctx, r.span = g.trace(ctx, op, r.lookup)
		} else { // the engine's own interceptor says first who calls
			next = r.within(next)
		}
		if answer, err = h(srv, ctx, r.decode, next); err == nil {
			_, err = g.size(answer, "answer")
		}
		return answer, err
	}
}

// within is the engine's interceptor with the rest of the guard inside it: the admission, and the end of a panic.
func (r *request) within(next grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, in any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		return next(ctx, in, info, func(ctx context.Context, in any) (answer any, err error) {
			defer func() {
				if p := recover(); p != nil {
					err = r.g.panicked(ctx, r.op, p)
				}
			}()
			if err = admit(ctx, r.lookup); err != nil {
				return nil, err
			}
			if _, bounded := ctx.Deadline(); bounded {
				var cancel context.CancelCauseFunc
				ctx, cancel = context.WithCancelCause(ctx)
				r.ctx = ctx
				defer early(ctx, cancel)()
			}
			ctx, r.span = r.g.trace(ctx, r.op, r.lookup)
			return h(ctx, in)
		})
	}
}

// message decodes the request and takes its place in the budget.
func (r *request) message(v any) (err error) {
	if err = r.read(v); err != nil {
		return Malformed(status.Convert(err).Message())
	}
	r.held, err = r.g.enter(v)
	return err
}

func (r *request) end(answer *any, err *error) {
	if p := recover(); p != nil {
		*err = r.g.panicked(r.ctx, r.op, p)
	} else if l, ok := (*err).(*fastgrpc.Later); ok {
		r.endLater(l)
		return
	} else if *err != nil {
		*err = r.g.failed(r.ctx, r.op, *err)
	}
	if *err != nil {
		*answer = nil
	}
	endSpan(r.span, *err)
	r.g.Budget.Leave(r.held)
	if r.seen {
		r.g.underWay.Add(-1)
	}
	r.g, r.op, r.ctx, r.read, r.held, r.seen, r.span = nil, "", nil, nil, 0, false, telemetry.Span{}
	requests.Put(r)
}

// endLater has the request end with the call, once that does.
func (r *request) endLater(l *fastgrpc.Later) {
	if !r.seen {
		r.seen = true
		r.g.underWay.Add(1)
	}
	begin := l.Begin
	l.Begin = func(done func(proto.Message, error)) {
		begin(func(answer proto.Message, err error) {
			if err == nil {
				_, err = r.g.size(answer, "answer")
			}
			var any any = answer
			if r.end(&any, &err); err != nil {
				answer = nil
			}
			done(answer, err)
		})
	}
}

func (r *request) header(name string) string { return header(r.ctx, name) }

// enter checks a request's size and takes its place in the budget.
func (g *Guard) enter(v any) (held int64, err error) {
	n, err := g.size(v, "request")
	if err != nil {
		return 0, err
	}
	return n, g.Budget.Enter(n)
}

func (g *Guard) size(v any, what string) (int64, error) {
	n := proto.Size(v.(proto.Message))
	if n > g.MaxMessage {
		return 0, TooLarge("api", what, g.MaxMessage)
	}
	return int64(n), nil
}

// trace begins the span of a call, under which those of the components it calls are.
func (g *Guard) trace(ctx context.Context, op string, header func(name string) string) (context.Context, telemetry.Span) {
	if g.Tracer == nil {
		return ctx, telemetry.Span{}
	}
	service, _, _ := strings.Cut(strings.TrimPrefix(op, "/"), "/")
	return g.Tracer.StartCall(ctx, telemetry.Request{Protocol: "grpc", Service: service, Method: op,
		Traceparent: header("traceparent"), Tracestate: header("tracestate")})
}

// endSpan records it, unless the call begins again where it may wait.
func endSpan(s telemetry.Span, err error) {
	if s.Sampled() && err != fastgrpc.ErrWouldBlock {
		s.End(telemetry.Result{Code: int(status.Code(err))})
	}
}

func admit(ctx context.Context, header func(name string) string) error {
	if _, ok := ctx.Value(callerKey{}).(components.Caller); ok {
		return nil
	}
	door, ok := fastgrpc.ConnTag(ctx).(Door)
	if !ok {
		return fmt.Errorf("%w: the connection came through no door", components.ErrUnauthenticated)
	}
	return door.Admit(header)
}

// failed is the status for a handler's error. What is INTERNAL is logged here, once, and told to the caller without its text.
func (g *Guard) failed(ctx context.Context, op string, err error) error {
	if err == fastgrpc.ErrWouldBlock {
		return err
	}
	over := ctx.Err()
	switch {
	case over != nil && status.Code(err) == codes.Canceled && errors.Is(context.Cause(ctx), errLate):
		err = errLate // another server's word for it
	case isStatus(err):
		return err
	case over != nil && errors.Is(err, over):
		err = context.Cause(ctx) // the caller's own end, though a driver took it for its back end's
	}
	a := answerOf(err)
	if a.st.Code() == codes.Internal {
		g.Logger.ErrorContext(ctx, "call failed", "op", op, "err", err)
	}
	return a
}

func (g *Guard) panicked(ctx context.Context, op string, p any) error {
	err := fmt.Errorf("panic: %v", p)
	g.Logger.ErrorContext(ctx, "call panicked", "op", op, "err", err, "stack", string(debug.Stack()))
	return Status(err).Err()
}
