package native

import (
	"context"
	"fmt"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/registry/v1"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"

	"google.golang.org/grpc"
)

// What an instance is published with which asks for nothing else.
const (
	defaultWeight   = 100
	defaultProtocol = "grpc"
)

// Publication is a service that an application offers through its sidecar.
type Publication struct {
	Service mesh.Service
	Port    int // where the application listens on this machine
	Weight  int
	Zone    string
	Labels  map[string]string
}

// Naming publishes services of applications and finds those of others. Services have a namespace, and a protocol when they are
// published; one that is looked for without a protocol may be of any.
type Naming interface {
	// Publish answers the address that is announced, or will be once the application's port answers.
	Publish(ctx context.Context, caller components.Caller, p Publication) (announced string, err error)
	// Unpublish takes it back; that it was not there is no error.
	Unpublish(ctx context.Context, caller components.Caller, s mesh.Service) error
	// Resolve answers where to call a service and the instances behind it.
	Resolve(ctx context.Context, caller components.Caller, s mesh.Service) (address string, instances []mesh.Instance, err error)
	// Watch calls send, one call at a time, with what there is now and then whenever it changes, until ctx ends or send fails.
	Watch(ctx context.Context, caller components.Caller, s mesh.Service, send func(address string, instances []mesh.Instance) error) error
}

type registryServer struct {
	pb.UnimplementedRegistryServer
	naming Naming
}

func (s *registryServer) Publish(ctx context.Context, in *pb.PublishRequest) (*pb.PublishResponse, error) {
	who, service, err := addressed(ctx, in.GetService())
	if err != nil {
		return nil, err
	}
	if service.Protocol == "" {
		service.Protocol = defaultProtocol
	}
	p := Publication{Service: service, Port: int(in.GetPort()), Weight: int(in.GetWeight()), Zone: in.GetZone(), Labels: in.GetLabels()}
	switch {
	case p.Port < 1 || p.Port > 65535:
		return nil, fmt.Errorf("%w: port %d is not between 1 and 65535", components.ErrInvalid, p.Port)
	case p.Weight < 0:
		return nil, fmt.Errorf("%w: weight %d is negative", components.ErrInvalid, p.Weight)
	case p.Weight == 0:
		p.Weight = defaultWeight
	}
	announced, err := s.naming.Publish(ctx, who, p)
	return &pb.PublishResponse{Announced: announced}, err
}

func (s *registryServer) Unpublish(ctx context.Context, in *pb.UnpublishRequest) (*pb.UnpublishResponse, error) {
	who, service, err := addressed(ctx, in.GetService())
	if err != nil {
		return nil, err
	}
	return &pb.UnpublishResponse{}, s.naming.Unpublish(ctx, who, service)
}

func (s *registryServer) Resolve(ctx context.Context, in *pb.ResolveRequest) (*pb.ResolveResponse, error) {
	who, service, err := addressed(ctx, in.GetService())
	if err != nil {
		return nil, err
	}
	address, found, err := s.naming.Resolve(ctx, who, service)
	return &pb.ResolveResponse{Address: address, Instances: instances(found)}, err
}

func (s *registryServer) Watch(in *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.WatchResponse]) error {
	who, service, err := addressed(stream.Context(), in.GetService())
	if err != nil {
		return err
	}
	return s.naming.Watch(stream.Context(), who, service, func(address string, now []mesh.Instance) error {
		return stream.Send(&pb.WatchResponse{Address: address, Instances: instances(now)})
	})
}

// addressed is who calls and the service meant, its namespace filled in.
func addressed(ctx context.Context, in *pb.Service) (components.Caller, mesh.Service, error) {
	who, err := caller(ctx)
	if err != nil {
		return who, mesh.Service{}, err
	}
	s := mesh.Service{Namespace: in.GetNamespace(), Name: in.GetName(), Group: in.GetGroup(), Version: in.GetVersion(), Protocol: in.GetProtocol()}
	if s.Namespace == "" {
		s.Namespace = who.Namespace
	}
	return who, s, checkService(s)
}

func checkService(s mesh.Service) error {
	switch s.Protocol {
	case "", "grpc", "http", "bolt", "dubbo", "tcp":
	default:
		return fmt.Errorf("%w: protocol %.32q is none of grpc, http, bolt, dubbo, tcp", components.ErrInvalid, s.Protocol)
	}
	if s.Name == "" {
		return fmt.Errorf("%w: the service has no name", components.ErrInvalid)
	}
	for _, part := range []struct{ what, text string }{{"namespace", s.Namespace}, {"name", s.Name}, {"group", s.Group}, {"version", s.Version}} {
		if err := components.CheckPrefix(part.text); err != nil || strings.ContainsAny(part.text, "/ \t\r\n") {
			return fmt.Errorf("%w: %.32q is no %s of a service", components.ErrInvalid, part.text, part.what)
		}
	}
	return nil
}

func instances(all []mesh.Instance) []*pb.Instance {
	out := make([]*pb.Instance, len(all))
	for i, in := range all {
		out[i] = &pb.Instance{Address: in.Address, Weight: int32(in.Weight), Zone: in.Zone, Labels: in.Labels.Map()}
	}
	return out
}
