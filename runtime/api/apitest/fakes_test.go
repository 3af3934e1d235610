package apitest

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/native"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// counted is a store whose calls may wait, unlike those of the one it stands on; it counts them and does as the key says.
type counted struct {
	cache.Driver
	calls  atomic.Int64
	inside chan struct{} // a call for the key hang is in, if not nil
}

func (c *counted) Get(ctx context.Context, key string) (cache.Item, error) {
	c.calls.Add(1)
	switch key {
	case app.String() + "/hang":
		if c.inside != nil {
			c.inside <- struct{}{}
		}
		<-ctx.Done()
		return cache.Item{}, fmt.Errorf("%w: %w", components.ErrUnavailable, ctx.Err())
	case app.String() + "/panic":
		panic("as asked")
	case app.String() + "/odd":
		return cache.Item{}, fmt.Errorf("dial tcp: password %q", "hunter2")
	case app.String() + "/big":
		return cache.Item{Value: make([]byte, 5<<20)}, nil
	}
	return c.Driver.Get(ctx, key)
}

// naming publishes in memory.
type naming struct {
	mu       sync.Mutex
	services map[mesh.Service]native.Publication
	changed  chan struct{}
	watchers atomic.Int64
}

const outbound = "127.0.0.1:7090"

func (n *naming) edit(change func(map[mesh.Service]native.Publication)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.services == nil {
		n.services, n.changed = map[mesh.Service]native.Publication{}, make(chan struct{})
	}
	change(n.services)
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *naming) Publish(_ context.Context, caller components.Caller, p native.Publication) (string, error) {
	if caller != app {
		return "", components.ErrDenied
	}
	n.edit(func(all map[mesh.Service]native.Publication) { all[p.Service] = p })
	return "127.0.0.1:7080", nil
}

func (n *naming) Unpublish(_ context.Context, _ components.Caller, s mesh.Service) error {
	n.edit(func(all map[mesh.Service]native.Publication) {
		maps.DeleteFunc(all, func(is mesh.Service, _ native.Publication) bool { return is.Name == s.Name && is.Group == s.Group })
	})
	return nil
}

func (n *naming) find(s mesh.Service) (instances []mesh.Instance, changed <-chan struct{}) {
	n.edit(func(map[mesh.Service]native.Publication) {})
	n.mu.Lock()
	defer n.mu.Unlock()
	for is, p := range n.services {
		if s.Protocol == "" {
			is.Protocol = ""
		}
		if is == s {
			instances = append(instances, mesh.Instance{Address: "127.0.0.1:7080", Weight: p.Weight, Zone: p.Zone, Labels: mesh.LabelsOf(p.Labels)})
		}
	}
	return instances, n.changed
}

func (n *naming) Resolve(_ context.Context, _ components.Caller, s mesh.Service) (string, []mesh.Instance, error) {
	instances, _ := n.find(s)
	if instances == nil {
		return "", nil, components.WithReason(fmt.Errorf("service %q: %w", s.Name, components.ErrNotFound), "SERVICE_NOT_FOUND")
	}
	return outbound, instances, nil
}

func (n *naming) Watch(ctx context.Context, _ components.Caller, s mesh.Service, send func(string, []mesh.Instance) error) error {
	n.watchers.Add(1)
	defer n.watchers.Add(-1)
	for {
		instances, changed := n.find(s)
		if err := send(outbound, instances); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// echo is an application that answers what it is asked, or fails as it is asked.
type echo struct{}

func (echo) Invoke(_ context.Context, caller components.Caller, in *invocationv1.InvokeRequest) (*invocationv1.InvokeResponse, error) {
	if in.GetMethod() == "fail" {
		st, err := status.New(codes.Internal, "the application's own").WithDetails(&errdetails.ErrorInfo{Reason: "THEIRS", Domain: "app"})
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	}
	return &invocationv1.InvokeResponse{Data: in.GetData(), ContentType: caller.String()}, nil
}
