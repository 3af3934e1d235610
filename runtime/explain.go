package runtime

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	forms "github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"
)

// explain is what admin tells of a call that might be made: service, protocol (gRPC unless it is said), method, source, and header, NAME=VALUE each.
func (s *sidecar) explain(ctx context.Context, query url.Values) (any, error) {
	if !s.wasReady.Load() {
		return nil, admin.ErrNotNow
	}
	service, ok := proxy.ParseService(query.Get("service"), s.app.Namespace)
	if !ok {
		return nil, fmt.Errorf("%w: service %q: write NAME or NAMESPACE/NAME", components.ErrInvalid, query.Get("service"))
	}
	protocol := cmp.Or(query.Get("protocol"), "grpc")
	if err := carried(protocol); err != nil {
		return nil, err
	}
	if protocol != "grpc" { // which asks for services of any
		service.Protocol = protocol
		service = forms.Canonical(service)
	}
	r := &mesh.Request{Protocol: protocol, Service: service, Method: query.Get("method"), Source: s.app, Header: func(name string) string {
		for _, pair := range query["header"] {
			if n, value, _ := strings.Cut(pair, "="); strings.EqualFold(n, name) {
				return value
			}
		}
		return ""
	}}
	if source := query.Get("source"); source != "" {
		r.Source = components.Caller{Namespace: s.app.Namespace, App: source}
		if namespace, app, both := strings.Cut(source, "/"); both {
			r.Source = components.Caller{Namespace: namespace, App: app}
		}
		if r.Source.Namespace == "" || r.Source.App == "" || strings.Contains(r.Source.App, "/") {
			return nil, fmt.Errorf("%w: source %q: write APP or NAMESPACE/APP", components.ErrInvalid, source)
		}
	}
	router := &mesh.Router{Directory: s.directory, Policies: s.policies, MaxHops: s.config().Mesh.MaxHops}
	if _, err := router.Route(r); err != nil {
		if pending, ok := mesh.IsPending(err); ok {
			known := make(chan struct{})
			pending.Wait(func() { close(known) })
			select {
			case <-known:
			case <-ctx.Done():
			}
		}
	}
	return router.Explain(r), nil
}
