package proxy

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

// RPCInbound lets calls of Bolt and Dubbo in and sends them to the application: those of other sidecars, and those of clients
// without one. Set its fields, then Bind it to a relay.
type RPCInbound struct {
	Gate    mesh.Inbound
	Monitor Monitor
	App     components.Caller
	Codecs  map[string]rpcproxy.Codec
	// Port is where the application serves a service of its namespace; false if it does not.
	Port func(s mesh.Service) (port int, ok bool)

	apps pool[app, *rpcproxy.Upstream]
}

// app is a port of the application.
type app struct {
	protocol string
	port     int
}

// Bind makes r the relay of this inbound side.
func (i *RPCInbound) Bind(r *rpcproxy.Relay) {
	i.apps.make = func(a app) *rpcproxy.Upstream {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(a.port))
		return r.NewUpstream(address, i.Codecs[a.protocol], connsEach, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		})
	}
	r.OnConn = func(nc net.Conn) any { peer, _ := PeerOf(nc); return peer }
	r.Strip = headerPrefix
	r.Route, r.Late, r.Done = i.route, rpcLate, i.done
}

func (i *RPCInbound) route(k *rpcproxy.Call) (*rpcproxy.Upstream, error) {
	s, ok := rpcService(k, i.App.Namespace)
	source, hops := k.Header(HeaderSource), rpcHops(k)
	if source != "" {
		k.Sidecar()
	}
	peer, known := k.ConnTag.(components.Caller)
	if known && peer.App != "" { // by its certificate
		source = peer.String()
	}
	c := newRPC(k, "inbound", source, s)
	k.Tag = c
	c.trace(k, i.Monitor)
	port := 0
	known = false
	if ok && s.Namespace == i.App.Namespace {
		port, known = i.Port(s)
	}
	if !known {
		return nil, rpcError(components.WithReason(fmt.Errorf("%w: %s is not served by the application here, %s, over %s: publish it, or name it in app.services",
			components.ErrNotFound, s, i.App, c.Protocol), mesh.ReasonNotForThisApp))
	}
	if err := i.Gate.Admit(&mesh.Request{Protocol: c.Protocol, Service: s, Method: c.Method, Source: peer, Hops: hops, Timeout: k.Timeout, Header: k.Header}); err != nil {
		return nil, rpcError(err)
	}
	c.admitted = true
	up := i.apps.get(app{c.Protocol, port})
	c.Upstream = up.Name
	return up, nil
}

func (i *RPCInbound) done(o *rpcproxy.Outcome) {
	c, ok := o.Call.Tag.(*rpcCall)
	if !ok {
		refusedRPC("inbound", i.App.Namespace, o, i.Monitor)
		return
	}
	if c.admitted {
		i.Gate.Leave()
	}
	c.finish(o, i.Monitor)
}

func (i *RPCInbound) sweep() { i.apps.sweep() }
