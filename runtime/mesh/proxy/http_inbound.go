package proxy

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/httpproxy"
)

// HTTPInbound lets requests of HTTP/1.1 in by the rules of an Inbound, and sends them to the application. Set its fields, then
// Bind it to a relay.
type HTTPInbound struct {
	*Inbound

	apps pool[int, *httpproxy.Upstream] // by port
}

// Bind makes r the relay of this inbound side.
func (i *HTTPInbound) Bind(r *httpproxy.Relay) {
	i.apps.make = func(port int) *httpproxy.Upstream {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		return r.NewUpstream(address, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		})
	}
	r.Reserved = headerPrefix
	r.Route, r.Response, r.Answer, r.Done = i.route, i.response, httpAnswer, i.done
	r.Again = i.again
}

// again says whether a request is made once more: when the application ended a connection that it had kept open as the request came, and that
// does no harm. Otherwise it is for the caller, who knows of other instances.
func (i *HTTPInbound) again(h *httpproxy.Head, f *httpproxy.Failure) bool {
	return f.Reused && h.Attempt == 0 && h.Idempotent() && (f.Flag == httpproxy.FlagClosed || f.Flag == httpproxy.FlagReset)
}

// route takes a request for one of the application's services in. One that names none, as of a client that has read the
// sidecar's address in a registry, is for the service named like the application.
func (i *HTTPInbound) route(h *httpproxy.Head) (*httpproxy.Upstream, error) {
	if h.Attempt > 0 { // see again
		return h.Last, nil
	}
	source := string(h.Get(HeaderSource))
	peer, ok := PeerOf(h.Conn)
	if ok { // by its certificate
		source = peer.String()
	}
	c := newHTTPCall(h, "inbound", source)
	c.Rule = "default"
	c.Service = mesh.Service{Namespace: i.App.Namespace, Name: i.App.App}
	if name := h.Get(HeaderService); name != nil {
		c.Service, _ = ParseService(string(name), i.App.Namespace) // what is no name is no service of the application's
	}
	c.hops = httpHops(h)
	h.DelPrefix(headerPrefix)
	c.trace(h, i.Monitor)
	if h.Method == "CONNECT" { // behind it nobody would look at anything
		return nil, httpError(components.WithReason(fmt.Errorf("%w: CONNECT does not come in", components.ErrUnsupported), mesh.ReasonUnknownMethod))
	}
	port, err := i.portFor(c.Service, c.asked(peer))
	if err != nil {
		return nil, httpError(err)
	}
	c.admitted = true
	h.Add(fieldHops, strconv.AppendInt(c.room[:0], int64(c.hops), 10))
	up := i.apps.get(port)
	c.Upstream = up.Name
	return up, nil
}

// response takes out what only sidecars may say, and says that the application has spoken.
func (i *HTTPInbound) response(_ *httpproxy.Head, status int, h *httpproxy.Head) {
	h.DelPrefix(headerPrefix)
	if status >= 200 || status == 101 {
		h.Add(fieldOrigin, valueApp)
	}
}

func (i *HTTPInbound) done(o *httpproxy.Outcome) {
	c, ok := o.Tag.(*httpCall)
	if !ok {
		unread("inbound", o, i.Monitor)
		return
	}
	if c.admitted {
		i.Gate.Leave()
	}
	c.finish(o, i.Monitor)
}

func (i *HTTPInbound) sweep() { i.apps.sweep() }
