package api

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"
)

// Door is what a listener knows of a connection's peer. It is the tag of a connection of the gRPC socket.
type Door interface {
	// Caller is whom the peer's calls are made for.
	Caller() components.Caller
	// Admit refuses a request that the peer may not make, with one of the kinds of errors.
	Admit(header func(name string) string) error
}

type callerKey struct{}

// WithCaller says for whom the calls made with the context are, and that they were admitted.
func WithCaller(ctx context.Context, c components.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom is the only place where a handler learns for whom a call is: from the context of WithCaller, or else from the
// connection it came on.
func CallerFrom(ctx context.Context) (components.Caller, bool) {
	if c, ok := ctx.Value(callerKey{}).(components.Caller); ok {
		return c, true
	}
	if door, ok := fastgrpc.ConnTag(ctx).(Door); ok {
		return door.Caller(), true
	}
	return components.Caller{}, false
}
