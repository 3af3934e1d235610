package client

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"

	"google.golang.org/grpc"

	registryv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/registry/v1"
)

// Registry publishes the application's services through its sidecar, and finds others.
type Registry struct {
	client *Client
	api    registryv1.RegistryClient
}

// Registry is the sidecar's registry.
func (c *Client) Registry() *Registry { return &Registry{c, registryv1.NewRegistryClient(c.API())} }

// Service is what calls are addressed to. Only the name must be set.
type Service struct {
	Namespace string // empty: the application's own
	Name      string
	Group     string
	Version   string
	Protocol  string // grpc, http, bolt or dubbo; empty: any when looked for, grpc when published
}

// Publication is a service of the application.
type Publication struct {
	Service Service
	Port    int // where the application itself listens on this machine
	Weight  int // relative to that of the other instances; 0: 100
	Zone    string
	Labels  map[string]string
}

// Instance is one application that offers a service.
type Instance struct {
	Address string // HOST:PORT of its sidecar
	Weight  int
	Zone    string
	Labels  map[string]string
}

// Resolution is where to call a service, and who is behind it.
type Resolution struct {
	Address   string     // HOST:PORT: the application's own sidecar
	Instances []Instance // sorted by address
}

// Publish announces a service, as soon as its port answers, and answers the HOST:PORT that is announced. The sidecar keeps the
// publication, over restarts too: there is no need to repeat it. To publish it again replaces it.
func (r *Registry) Publish(ctx context.Context, p Publication) (announced string, err error) {
	out, err := r.api.Publish(ctx, &registryv1.PublishRequest{Service: p.Service.message(), Port: int32Of(p.Port),
		Weight: int32Of(p.Weight), Zone: p.Zone, Labels: p.Labels})
	return out.GetAnnounced(), err
}

// Unpublish takes a service back; that it was not there is no error.
func (r *Registry) Unpublish(ctx context.Context, s Service) error {
	_, err := r.api.Unpublish(ctx, &registryv1.UnpublishRequest{Service: s.message()})
	return err
}

// Resolve fails with ErrNotFound when nobody has published the service.
func (r *Registry) Resolve(ctx context.Context, s Service) (Resolution, error) {
	out, err := r.api.Resolve(ctx, &registryv1.ResolveRequest{Service: s.message()})
	if err != nil {
		return Resolution{}, err
	}
	return resolution(out.GetAddress(), out.GetInstances()), nil
}

// Watch goes through what Resolve would answer now (an unknown service has no instances) and then whenever it is another. It
// survives a restart of the sidecar and ends as Config.Watch does.
func (r *Registry) Watch(ctx context.Context, s Service) iter.Seq2[Resolution, error] {
	return func(yield func(Resolution, error) bool) {
		var last Resolution
		known := false
		err := watch(ctx, r.client, "registry", func(ctx context.Context) (grpc.ServerStreamingClient[registryv1.WatchResponse], error) {
			return r.api.Watch(ctx, &registryv1.WatchRequest{Service: s.message()})
		}, func(m *registryv1.WatchResponse) error {
			now := resolution(m.GetAddress(), m.GetInstances())
			if known && now.equal(last) {
				return nil
			}
			if last, known = now, true; !yield(now.clone(), nil) {
				return errEnough
			}
			return nil
		})
		if err != nil {
			yield(Resolution{}, err)
		}
	}
}

func (s Service) message() *registryv1.Service {
	return &registryv1.Service{Namespace: s.Namespace, Name: s.Name, Group: s.Group, Version: s.Version, Protocol: s.Protocol}
}

// int32Of keeps a number that is out of range out of range, for the sidecar to refuse.
func int32Of(n int) int32 { return int32(min(max(n, -1<<31), 1<<31-1)) }

func resolution(address string, instances []*registryv1.Instance) Resolution {
	r := Resolution{Address: address}
	for _, i := range instances {
		r.Instances = append(r.Instances, Instance{i.GetAddress(), int(i.GetWeight()), i.GetZone(), i.GetLabels()})
	}
	slices.SortFunc(r.Instances, func(a, b Instance) int { return cmp.Compare(a.Address, b.Address) })
	return r
}

func (r Resolution) equal(other Resolution) bool {
	return r.Address == other.Address && slices.EqualFunc(r.Instances, other.Instances, func(a, b Instance) bool {
		return a.Address == b.Address && a.Weight == b.Weight && a.Zone == b.Zone && maps.Equal(a.Labels, b.Labels)
	})
}

// clone lets the reader do with it as it likes.
func (r Resolution) clone() Resolution {
	r.Instances = slices.Clone(r.Instances)
	for i := range r.Instances {
		r.Instances[i].Labels = maps.Clone(r.Instances[i].Labels)
	}
	return r
}
