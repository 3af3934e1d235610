package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// Inbound lets the calls of other sidecars in and sends them to the application. Set its fields, then Bind it to a relay.
type Inbound struct {
	Gate    mesh.Inbound
	Monitor Monitor
	App     components.Caller
	// Port is where the application serves a service, named without its namespace; false if it does not.
	Port func(service string) (port int, ok bool)

	apps pool[int, *grpcproxy.Upstream] // by port
}

// Bind makes r the relay of this inbound side. What local takes first (true) is served by the sidecar itself.
func (i *Inbound) Bind(r *grpcproxy.Relay, local func(h *grpcproxy.Headers) (*grpcproxy.Upstream, error, bool)) {
	i.apps.make = func(port int) *grpcproxy.Upstream {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		return r.NewUpstream(address, connsEach, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		})
	}
	r.MaxAttempts = 1 // there is one application
	r.Route = func(h *grpcproxy.Headers) (*grpcproxy.Upstream, error) {
		if up, err, taken := local(h); taken {
			return up, err
		}
		up, err := i.route(h)
		if err != nil {
			return nil, api.RelayError(err)
		}
		return up, nil
	}
	r.Response, r.Done = i.response, i.done
}

func (i *Inbound) route(h *grpcproxy.Headers) (*grpcproxy.Upstream, error) {
	s := mesh.Service{Namespace: i.App.Namespace, Name: i.App.App}
	if name := h.Get(HeaderService); name != "" {
		s, _ = ParseService(name, i.App.Namespace) // what is no name is no service of the application's
	}
	peer, source := sourceOf(h.TLS(), h.Get(HeaderSource))
	c := &call{Record: Record{Direction: "inbound", Protocol: "grpc", Service: s, Method: strings.TrimPrefix(h.Path(), "/"),
		Source: source, Rule: "default", Start: time.Now()}}
	h.Tag = c
	hops := hopsOf(h)
	clean(h, "")
	c.trace(h, i.Monitor)
	port, err := i.portFor(s, &mesh.Request{Protocol: c.Protocol, Service: s, Method: c.Method, Source: peer, Hops: hops, Timeout: h.Timeout, Header: h.Get})
	if err != nil {
		return nil, err
	}
	c.admitted = true
	h.Set(HeaderHops, strconv.Itoa(hops))
	up := i.apps.get(port)
	c.Upstream = up.Name
	return up, nil
}

// sourceOf is who calls: by mutual TLS as the certificate says; else nobody knows, and the header is for logs.
func sourceOf(s *tls.ConnectionState, header string) (components.Caller, string) {
	if peer, ok := peerOf(s); ok {
		return peer, peer.String()
	}
	return components.Caller{}, header
}

// Admit lets a call in that is for one of the application's services; the gate must be left when it has ended.
func (i *Inbound) Admit(s mesh.Service, r *mesh.Request) error {
	_, err := i.portFor(s, r)
	return err
}

// portFor lets a call in, and is where it goes.
func (i *Inbound) portFor(s mesh.Service, r *mesh.Request) (port int, err error) {
	port, ok := i.Port(s.Name)
	return port, i.admit(ok, s, r)
}

// admit is Admit of a service of this name that the application serves, or does not.
func (i *Inbound) admit(serves bool, s mesh.Service, r *mesh.Request) error {
	if err := mesh.CheckMethod(r.Method); err != nil {
		return err
	}
	if !serves || s.Namespace != i.App.Namespace {
		return components.WithReason(fmt.Errorf("%w: %s/%s is not served by the application here, %s", components.ErrNotFound,
			s.Namespace, s.Name, i.App), mesh.ReasonNotForThisApp)
	}
	return i.Gate.Admit(r)
}

// response takes out what only sidecars may say, and says that the application has spoken. The sidecar's own services speak
// for themselves.
func (i *Inbound) response(h *grpcproxy.Headers, trailers bool) {
	if _, ok := h.Tag.(*call); !ok {
		return
	}
	if clean(h, ""); h.End {
		h.Set(HeaderOrigin, "app")
	}
}

func (i *Inbound) done(o *grpcproxy.Outcome) {
	c, ok := o.Tag.(*call)
	if !ok {
		return
	}
	if c.admitted {
		i.Gate.Leave()
	}
	c.finish(o, i.Monitor)
}

func (i *Inbound) sweep() { i.apps.sweep() }
