// Package http serves the API as HTTP/JSON: POST /outrigger.cache.v1.Cache/Set with a JSON body, as the Connect protocol has
// it, over the same handlers as gRPC. Clients of that protocol work, and so does curl: errors are JSON with the same
// reasons, and a stream asked for with plain JSON answers one JSON text a line.
package http

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	nethttp "net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"connectrpc.com/vanguard"
	"connectrpc.com/vanguard/vanguardgrpc"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Options are what a Handler needs.
type Options struct {
	GRPC       *grpc.Server // all its services are registered
	Access     *access.Policy
	Caller     components.Caller // for whom the calls are
	MaxMessage int               // bytes of a message; its JSON may have twice as many
	Budget     *api.Budget       // of bodies that are read; the requests in them count again, since they take memory again
	Logger     *slog.Logger
}

// Handler is the HTTP API. Its connections must come from Server.
type Handler struct {
	opts       Options
	transcoder nethttp.Handler
	methods    map[string]protoreflect.MethodDescriptor // by path
	leaving    atomic.Bool
}

// Leave makes each answer from now on the last one of its connection.
func (h *Handler) Leave() { h.leaving.Store(true) }

// New makes the handler of all services of the gRPC server that are described in this build.
func New(o Options) (*Handler, error) {
	h := &Handler{opts: o, methods: map[string]protoreflect.MethodDescriptor{}}
	for name := range o.GRPC.GetServiceInfo() {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		service, ok := d.(protoreflect.ServiceDescriptor)
		if err != nil || !ok {
			return nil, fmt.Errorf("service %s has no description: %w", name, err)
		}
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			h.methods["/"+name+"/"+string(m.Name())] = m
		}
	}
	var err error
	h.transcoder, err = vanguardgrpc.NewTranscoder(o.GRPC, vanguard.WithCodec(newCodec),
		vanguard.WithDefaultServiceOptions(vanguard.WithMaxMessageBufferBytes(uint32(min(api.TextLimit(o.MaxMessage), math.MaxUint32)))))
	return h, err
}

const (
	headerTime  = 10 * time.Second // for a request's headers
	idleTime    = 5 * time.Minute  // between requests of a connection
	headerBytes = 16 << 10
)

type peerKey struct{}

// Server is the server that the handler works in.
func (h *Handler) Server() *nethttp.Server {
	return &nethttp.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(h.opts.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			// Looked up with the first request: this runs on the goroutine that accepts.
			return context.WithValue(ctx, peerKey{}, sync.OnceValue(func() access.Peer { return h.opts.Access.Identify(nc) }))
		},
	}
}

// admit says who calls, or why the request is refused.
func (h *Handler) admit(r *nethttp.Request) (context.Context, error) {
	if err := access.NotABrowser(r); err != nil {
		return nil, err
	}
	identify, ok := r.Context().Value(peerKey{}).(func() access.Peer)
	if !ok {
		return nil, fmt.Errorf("%w: the connection came through no door", components.ErrUnauthenticated)
	}
	if err := h.opts.Access.Admit(identify(), r.Header.Get); err != nil {
		return nil, err
	}
	return api.WithCaller(r.Context(), h.opts.Caller), nil
}
