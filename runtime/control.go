package runtime

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	contract "github.com/outrigger-mesh/outrigger/runtime/mesh/control"
	forms "github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/publish"
)

// startControl serves mesh.sofarpc, if it is configured.
func (s *sidecar) startControl(policy *access.Policy, calls *proxy.Dispatch) *contract.Server {
	if s.sockets.control == nil {
		return nil
	}
	server := contract.New(contract.Options{Backend: controlled{s}, Outbound: s.sockets.sofaOutbound.Addr().String(), Access: policy, Logger: s.log})
	s.serve("sofarpc control", func() error { return server.Serve(s.sockets.control) })
	s.serve("sofarpc outbound", func() error { return calls.Serve(s.sockets.sofaOutbound) })
	return server
}

// controlled is the backend of that.
type controlled struct{ *sidecar }

var _ contract.Backend = controlled{}

func (c controlled) Publish(ctx context.Context, s mesh.Service) error {
	s.Namespace = c.app.Namespace
	p, ok := c.portOf(s)
	if !ok {
		return fmt.Errorf("%w: where the application serves %s is not configured: write app.port and app.protocol: %s, or list it in app.services",
			components.ErrPrecondition, s.Name, s.Protocol)
	}
	p.Service = s
	_, err := c.publisher.Publish(ctx, p)
	return err
}

// portOf is where the configuration says that a service is, and what else it says of it.
func (c controlled) portOf(s mesh.Service) (p publish.Publication, ok bool) {
	conf := c.config()
	for _, p := range declared(conf) {
		if p.Service == s {
			return p, true
		}
		if p.Service.Name == s.Name && p.Service.Protocol == s.Protocol {
			return publish.Publication{Port: p.Port}, true
		}
	}
	return publish.Publication{Port: conf.App.Port}, conf.App.Protocol == s.Protocol && conf.App.Port != 0
}

// Unpublish returns when the application may stop to serve, which SOFARPC does as soon as it is answered: when those have heard who call it
// without a sidecar. Of a sidecar that drains they hear as well, and it serves until it turns them away.
func (c controlled) Unpublish(ctx context.Context, s mesh.Service) error {
	s.Namespace = c.app.Namespace
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.turned, cancel)()
	d := c.config().Drain
	return c.publisher.Leave(ctx, s, d.Propagation, d.Max)
}

// Subscribe does not wait for the registry: the first call does, if it must.
func (c controlled) Subscribe(s mesh.Service) error {
	s.Namespace = c.app.Namespace
	if c.directory.Find(forms.Canonical(s)) == nil {
		return fmt.Errorf("%w: too many services are watched", components.ErrExhausted)
	}
	return nil
}
