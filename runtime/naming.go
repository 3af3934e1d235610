package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api/native"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	forms "github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/dubbo"
	sidecars "github.com/outrigger-mesh/outrigger/runtime/mesh/naming/native"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/sofa"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/springcloud"
	"github.com/outrigger-mesh/outrigger/runtime/publish"
)

// names are the services in the registry that mesh.registry names, in the forms of mesh.naming.
func (s *sidecar) names() forms.Names {
	// Where nothing goes without mutual TLS, who can write into the registry must not be able to have calls go so.
	plain := func() bool { return s.config().Mesh.TLS.Mode != "strict" }
	return forms.Names{Registry: s.registry, Native: sidecars.Form{Direct: plain}, Other: func(protocol string) forms.Form {
		n := s.config().Mesh.Naming
		return otherForms[map[string]string{"bolt": n.Bolt, "dubbo": n.Dubbo, "http": n.HTTP}[protocol]]
	}}
}

var otherForms = map[string]forms.Form{"sofa": sofa.Form{}, "dubbo": dubbo.Form{}, "springcloud": springcloud.Form{}}

// naming is what the Registry API stands on: publications of this application, and the directory's view of all others.
type naming struct {
	publisher *publish.Publisher
	directory *mesh.Directory
	outbound  string // what callers are handed
}

var _ native.Naming = (*naming)(nil)

// own fills in the caller's namespace; a service of another namespace cannot be published.
func own(caller components.Caller, s mesh.Service) (mesh.Service, error) {
	if s.Namespace == "" {
		s.Namespace = caller.Namespace
	}
	if s.Namespace != caller.Namespace {
		return s, fmt.Errorf("%w: an application of namespace %s cannot publish a service of %s", components.ErrDenied, caller.Namespace, s.Namespace)
	}
	return s, nil
}

// carried refuses a protocol that this sidecar lets no calls in for: nobody could call the service.
func carried(protocol string) error {
	switch protocol {
	case "", "grpc", "http", "bolt", "dubbo", mesh.TCP:
		return nil
	}
	return fmt.Errorf("%w: protocol %q is not carried by this sidecar; grpc, http, bolt, dubbo and tcp are", components.ErrInvalid, protocol)
}

func (n *naming) Publish(ctx context.Context, caller components.Caller, p native.Publication) (string, error) {
	s, err := own(caller, p.Service)
	if err != nil {
		return "", err
	}
	if err := carried(s.Protocol); err != nil {
		return "", err
	}
	return n.publisher.Publish(ctx, publish.Publication{Service: forms.Canonical(s), Port: p.Port, Weight: p.Weight, Zone: p.Zone, Labels: p.Labels})
}

func (n *naming) Unpublish(ctx context.Context, caller components.Caller, s mesh.Service) error {
	s, err := own(caller, s)
	if err != nil {
		return err
	}
	return n.publisher.Unpublish(ctx, forms.Canonical(s))
}

func (n *naming) Resolve(ctx context.Context, caller components.Caller, s mesh.Service) (address string, all []mesh.Instance, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = n.watch(ctx, caller, s, func(now *mesh.Snapshot) error {
		if !now.Known {
			return mesh.RegistryAway(s, now.Err)
		}
		all = instances(now)
		return errFound
	})
	if !errors.Is(err, errFound) {
		return "", nil, err
	}
	if len(all) == 0 {
		return "", nil, components.WithReason(fmt.Errorf("%w: nobody has published service %s", components.ErrNotFound, s), mesh.ReasonNotFound)
	}
	return n.outbound, all, nil
}

var errFound = errors.New("found")

func (n *naming) Watch(ctx context.Context, caller components.Caller, s mesh.Service, send func(string, []mesh.Instance) error) error {
	return n.watch(ctx, caller, s, func(now *mesh.Snapshot) error {
		if !now.Known {
			return nil // the registry is away: what comes first is what it says when it is back
		}
		return send(n.outbound, instances(now))
	})
}

func (n *naming) watch(ctx context.Context, caller components.Caller, s mesh.Service, report func(*mesh.Snapshot) error) error {
	if s.Namespace == "" {
		s.Namespace = caller.Namespace
	}
	if s.Name == "" {
		return components.WithReason(fmt.Errorf("%w: the service has no name", components.ErrInvalid), mesh.ReasonNoService)
	}
	return n.directory.Watch(ctx, forms.Canonical(s), report)
}

func instances(now *mesh.Snapshot) []mesh.Instance {
	all := make([]mesh.Instance, 0, len(now.Endpoints))
	for _, e := range now.Endpoints {
		all = append(all, *e.Instance())
	}
	return all
}
