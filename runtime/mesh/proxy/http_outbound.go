package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/httpproxy"
)

// HTTPOutbound sends the application's requests of HTTP/1.1 where the engine says. Set its fields, then Bind it to a relay.
type HTTPOutbound struct {
	Engine  mesh.Engine
	Monitor Monitor
	Caller  components.Caller // the application beside this sidecar
	Self    *mesh.SelfCalls   // bounds its calls to itself; nil: nothing does
	// Dial connects to an instance.
	Dial func(ctx context.Context, to *mesh.Instance) (net.Conn, error)
	// Admit, if set, refuses requests of a connection that the relay's OnConn has said tag of.
	Admit func(tag any, header func(name string) string) error
	// ServiceAt, if set, finds the service that has an instance at an address.
	ServiceAt func(address string) (mesh.Service, bool)
	// Passthrough lets requests whose target is an absolute URL, and CONNECT, go where they say if that is no service.
	Passthrough bool

	begun     atomic.Int64
	ended     atomic.Int64
	upstreams pool[place, *httpproxy.Upstream]
}

// Bind makes r the relay of this outbound side: its hooks are set, save OnConn.
func (o *HTTPOutbound) Bind(r *httpproxy.Relay) {
	o.upstreams.make = func(p place) *httpproxy.Upstream {
		in := p.instance()
		return r.NewUpstream(p.address, func(ctx context.Context) (net.Conn, error) { return o.Dial(ctx, in) })
	}
	r.Reserved = headerPrefix
	r.Route, r.Again, r.Attempted = o.route, o.again, o.attempted
	r.Response, r.Answer, r.Done = o.response, httpAnswer, o.done
}

// route answers where one attempt goes.
func (o *HTTPOutbound) route(h *httpproxy.Head) (*httpproxy.Upstream, error) {
	c, ok := h.Tag.(*httpCall)
	if !ok {
		var err error
		if c, err = o.begin(h); err != nil {
			return nil, httpError(err)
		}
	}
	if c.through {
		return o.straight(c, h)
	}
	if c.plan == nil {
		if err := o.ask(c, h); err != nil {
			if pending, ok := mesh.IsPending(err); ok {
				return nil, &httpproxy.Later{Wait: pending.Wait}
			}
			if o.Passthrough && h.Absolute() && nobody(err) {
				c.through, c.Service = true, mesh.Service{}
				return o.straight(c, h)
			}
			return nil, httpError(err)
		}
	}
	to, err := c.plan.Next()
	if err != nil {
		return nil, httpError(err)
	}
	c.to, c.dead, c.lost = to, false, false
	in := to.Instance()
	c.Upstream, h.PerTry = in.Address, c.plan.PerTry()
	o.address(c, h, in)
	return o.upstreams.get(place{"http", in.Address, in.Identity, in.Direct}), nil
}

// begin reads what a request is for, and whether it may be made.
func (o *HTTPOutbound) begin(h *httpproxy.Head) (*httpCall, error) {
	c := newHTTPCall(h, "outbound", o.Caller.String())
	o.begun.Add(1)
	var refused error
	if o.Admit != nil {
		bearer := false
		refused = o.Admit(h.ConnTag, func(name string) string {
			bearer = bearer || name == "authorization"
			return string(h.Get(name))
		})
		if bearer && refused == nil { // it was asked for last, so it is this sidecar's token, and no business of others
			h.Del("authorization")
		}
	}
	named := refused == nil && h.Method != "CONNECT"
	if named {
		c.Service, named = o.httpService(h)
	}
	c.hops = httpHops(h)
	h.DelPrefix(headerPrefix)
	c.trace(h, o.Monitor)
	switch {
	case refused != nil:
		return nil, refused
	case named:
	case o.Passthrough && (h.Absolute() || h.Method == "CONNECT"):
		c.through = true
		return c, nil
	default:
		return nil, o.unnamed(h)
	}
	setHTTPStateHops(h, c.Traceparent, c.hops+1)
	if o.Self != nil {
		var err error
		if c.self, err = o.Self.Enter(c.Service); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (o *HTTPOutbound) unnamed(h *httpproxy.Head) error {
	why := fmt.Sprintf("the host %.64q is neither a service's name (NAME or NAME.NAMESPACE) nor the address of an instance that is known here: "+
		"send the header %s", h.Host, HeaderService)
	if h.Absolute() || h.Method == "CONNECT" {
		why += ", or set mesh.outbound.passthrough to have the sidecar forward to other addresses"
	}
	return components.WithReason(fmt.Errorf("%w: %s", components.ErrInvalid, why), mesh.ReasonNoService)
}

// nobody tells whether a service has no instances since nobody has published it.
func nobody(err error) bool {
	var d *components.Detail
	return errors.As(err, &d) && d.Reason == mesh.ReasonNoInstance
}

// ask has the engine plan the request.
func (o *HTTPOutbound) ask(c *httpCall, h *httpproxy.Head) error {
	r := c.asked(o.Caller)
	r.Repeatable = h.Idempotent() || len(h.Get(keyHeader)) > 0
	plan, err := o.Engine.Route(r)
	if err != nil {
		return err
	}
	c.plan, c.Rule, h.Timeout = plan, plan.Rule(), plan.Timeout()
	return nil
}

// address writes what the instance's sidecar is to know; an application without one is told nothing.
func (o *HTTPOutbound) address(c *httpCall, h *httpproxy.Head, to *mesh.Instance) {
	if h.Attempt > 0 {
		h.DelPrefix(headerPrefix)
	}
	if to.Direct {
		return
	}
	b := append(append(append(c.room[:0], c.Service.Namespace...), '/'), c.Service.Name...)
	at := len(b)
	b = strconv.AppendInt(b, int64(c.hops+1), 10)
	h.Add(fieldService, b[:at:at])
	h.Add(fieldHops, b[at:])
	h.Add(fieldSource, []byte(c.Source))
}

// straight is the way of a request that is for no service: to the address that it names.
func (o *HTTPOutbound) straight(c *httpCall, h *httpproxy.Head) (*httpproxy.Upstream, error) {
	if len(h.Scheme) > 0 && !strings.EqualFold(string(h.Scheme), "http") {
		return nil, httpError(fmt.Errorf("%w: the sidecar forwards http alone; clients ask for https with CONNECT", components.ErrUnsupported))
	}
	via := "1.1 outrigger-" + c.Source
	var passed []string
	for _, f := range h.Fields {
		if strings.EqualFold(string(f.Name), "via") {
			passed = append(passed, string(f.Value))
		}
	}
	all := strings.Join(passed, ", ")
	if slices.Contains(strings.Split(strings.ReplaceAll(all, ", ", ","), ","), via) {
		return nil, httpError(components.WithReason(fmt.Errorf("%w: the request goes round in a circle: it has passed this sidecar already",
			components.ErrPrecondition), mesh.ReasonTooManyHops))
	}
	if all != "" {
		via = all + ", " + via
	}
	h.Set("Via", via)
	c.Rule, c.Upstream = "passthrough", withPort(string(h.Host))
	return o.upstreams.get(place{"http", c.Upstream, "", true}), nil
}

func (o *HTTPOutbound) sweep() { o.upstreams.sweep() }

// again asks the engine for another attempt.
func (o *HTTPOutbound) again(h *httpproxy.Head, f *httpproxy.Failure) bool {
	c, ok := h.Tag.(*httpCall)
	if !ok || c.plan == nil {
		return false
	}
	m := mesh.Failure{Kind: httpKinds[f.Flag], Sent: f.Sent}
	if f.Response != nil {
		if c.judge(f.Response); c.dead {
			m.Kind, m.Sent = mesh.Connect, false
		} else {
			m.Status = strconv.Itoa(f.Status)
		}
	}
	return c.plan.Again(m)
}

// attempted reports an attempt that failed. Of one that did not, done knows more. A timeout is held against an instance unless its
// answer had begun, since a machine that is gone shows itself in nothing else.
func (o *HTTPOutbound) attempted(h *httpproxy.Head, _ *httpproxy.Upstream, f *httpproxy.Failure) {
	c, ok := h.Tag.(*httpCall)
	if !ok {
		return
	}
	switch {
	case f.Flag == httpproxy.FlagLimited:
		c.report(mesh.Unknown)
	case f.Flag == httpproxy.FlagConnectFailed, f.Flag == httpproxy.FlagStatus && c.dead:
		c.report(mesh.Unreachable)
	case f.Flag == httpproxy.FlagStatus && !c.lost, f.Flag == httpproxy.FlagTimeout && f.Begun:
		c.report(mesh.Answered)
	default:
		c.report(mesh.Failed)
	}
}

// response says whose answer it is: a sidecar's own answer was the peer's.
func (o *HTTPOutbound) response(request *httpproxy.Head, status int, h *httpproxy.Head) {
	c, ok := request.Tag.(*httpCall)
	if !ok {
		return
	}
	origin, reason := valueApp, []byte(nil)
	if c.to != nil && !c.to.Instance().Direct {
		switch string(h.Get(HeaderOrigin)) {
		case "sidecar", "peer":
			origin, reason = valuePeer, slices.Clone(h.Get(HeaderReason))
			c.judge(h)
		}
	}
	h.DelPrefix(headerPrefix)
	if c.through || status < 200 && status != 101 {
		return
	}
	h.Add(fieldOrigin, origin)
	if reason != nil {
		h.Add(fieldReason, reason)
	}
}

func (o *HTTPOutbound) done(out *httpproxy.Outcome) {
	c, ok := out.Tag.(*httpCall)
	if !ok {
		unread("outbound", out, o.Monitor)
		return
	}
	o.ended.Add(1)
	if c.self {
		o.Self.Leave()
	}
	switch {
	case c.dead:
		c.report(mesh.Unreachable)
	case c.lost:
		c.report(mesh.Failed)
	case out.Status != 0 && !out.Local:
		c.report(mesh.Answered)
	default:
		c.report(mesh.Unknown) // the client gave up
	}
	c.finish(out, o.Monitor)
}

// Activity tells how many requests are under way, and a count that grows with each that ends.
func (o *HTTPOutbound) Activity() (underWay, total int64) {
	ended := o.ended.Load()
	return o.begun.Load() - ended, ended
}
