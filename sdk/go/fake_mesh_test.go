package client_test

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	registryv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/registry/v1"
)

type registry struct {
	registryv1.UnimplementedRegistryServer
	w *world
}

const outbound = "127.0.0.1:7090"

func (r registry) Publish(_ context.Context, in *registryv1.PublishRequest) (*registryv1.PublishResponse, error) {
	if in.GetPort() < 1 || in.GetPort() > 65535 {
		return nil, problem(codes.InvalidArgument, "PORT_INVALID", "not a port")
	}
	r.w.edit(func(string) { r.w.services[in.GetService().GetName()] = in })
	return &registryv1.PublishResponse{Announced: "192.0.2.1:7080"}, nil
}

func (r registry) Unpublish(_ context.Context, in *registryv1.UnpublishRequest) (*registryv1.UnpublishResponse, error) {
	r.w.edit(func(string) { delete(r.w.services, in.GetService().GetName()) })
	return &registryv1.UnpublishResponse{}, nil
}

func (r registry) instances(name string) []*registryv1.Instance {
	p := r.w.services[name]
	if p == nil {
		return nil
	}
	return []*registryv1.Instance{
		{Address: "192.0.2.2:7080", Weight: p.GetWeight()},
		{Address: "192.0.2.1:7080", Weight: p.GetWeight(), Zone: p.GetZone(), Labels: p.GetLabels()},
	}
}

func (r registry) Resolve(_ context.Context, in *registryv1.ResolveRequest) (*registryv1.ResolveResponse, error) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	all := r.instances(in.GetService().GetName())
	if all == nil {
		return nil, problem(codes.NotFound, "SERVICE_NOT_FOUND", "nobody has published it")
	}
	return &registryv1.ResolveResponse{Address: outbound, Instances: all}, nil
}

func (r registry) Watch(in *registryv1.WatchRequest, s grpc.ServerStreamingServer[registryv1.WatchResponse]) error {
	for {
		r.w.mu.Lock()
		m := &registryv1.WatchResponse{Address: outbound, Instances: r.instances(in.GetService().GetName())}
		changed := r.w.changed
		r.w.mu.Unlock()
		if err := s.Send(m); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-s.Context().Done():
			return nil
		}
	}
}

type invocation struct {
	invocationv1.UnimplementedInvocationServer
}

func (invocation) Invoke(ctx context.Context, in *invocationv1.InvokeRequest) (*invocationv1.InvokeResponse, error) {
	if in.GetMethod() == "fail" {
		if err := grpc.SetTrailer(ctx, metadata.Pairs("outrigger-origin", "peer")); err != nil {
			return nil, err
		}
		return nil, overloaded("stock has enough to do", 2e9)
	}
	verb := in.GetVerb()
	if verb == "" {
		verb = "POST"
	}
	text := fmt.Sprintf("%s %s/%s %s", verb, in.GetService(), in.GetMethod(), in.GetData())
	return &invocationv1.InvokeResponse{Data: []byte(text), ContentType: in.GetContentType(), HttpStatus: 200,
		Metadata: map[string]string{"x-user": in.GetMetadata()["x-user"], "x-idempotent": strconv.FormatBool(in.GetIdempotent())}}, nil
}

// freeAddress is one that nobody listens on now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
