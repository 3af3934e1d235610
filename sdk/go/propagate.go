package client

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// propagated is what goes from a call that comes in to the calls it leads to: W3C trace context and baggage, so that traces
// link, and the number of sidecars passed, so that a service that calls itself through the sidecar is stopped.
var propagated = []string{"traceparent", "tracestate", "baggage", hopsMetadata}

// propagate copies it from the incoming gRPC call that ctx belongs to, if any, where the caller has not set it. Calls of a
// Client do so by themselves.
func propagate(ctx context.Context) context.Context {
	in, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return ctx
	}
	return carry(ctx, in.Get)
}

func carry(ctx context.Context, values func(key string) []string) context.Context {
	out, _ := metadata.FromOutgoingContext(ctx)
	var pairs []string
	for _, key := range propagated {
		if len(out.Get(key)) > 0 {
			continue
		}
		for _, v := range values(key) {
			if sendable(v) {
				pairs = append(pairs, key, v)
			}
		}
	}
	if pairs == nil {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// sendable tells whether gRPC takes v as metadata; it would fail the whole call for one that it does not.
func sendable(v string) bool {
	return v != "" && !strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' })
}

// UnaryServerInterceptor propagates trace context and hop count to calls that the application makes through connections
// of its own, such as one to the sidecar's outbound port. Calls through a Client do not need it: they find them in the handler's context.
func UnaryServerInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return handler(propagate(ctx), req)
	}
}

// StreamServerInterceptor is UnaryServerInterceptor for streams.
func StreamServerInterceptor() grpc.StreamServerInterceptor {
	return func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return handler(srv, serverStream{s, propagate(s.Context())})
	}
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s serverStream) Context() context.Context { return s.ctx }

// PropagateHTTP propagates trace context and hop count of HTTP requests to the gRPC calls that next makes with the request's context.
func PropagateHTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := carry(r.Context(), func(key string) []string { return r.Header.Values(key) })
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
