package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// Outbound sends the application's gRPC calls where the engine says. Set its fields, then Bind it to a relay.
type Outbound struct {
	Engine  mesh.Engine
	Monitor Monitor
	Caller  components.Caller // the application beside this sidecar
	Self    *mesh.SelfCalls   // bounds its calls to itself; nil: nothing does
	// Dial connects to an instance.
	Dial func(ctx context.Context, in *mesh.Instance) (net.Conn, error)

	begun     atomic.Int64 // calls through the mesh
	ended     atomic.Int64
	own       atomic.Int64 // calls of the sidecar's API on the same relay that have ended
	upstreams pool[place, *grpcproxy.Upstream]
}

const (
	connsEach   = 4        // connections to one instance, made as needed
	maxAttempts = 10       // of a request; its plan allows fewer
	mostReplay  = 64 << 10 // bytes of a request that is kept to be sent once more, if that does no harm
	mostUnheard = 16 << 10 // of others, which are sent again only if nobody has handled anything of them
)

// Bind makes r the relay of this outbound side: its hooks are set, save OnConn, and r serves nothing else but what
// route, if it is not nil, takes first (true). Calls are answered a margin before their deadline, one unless r has more.
func (o *Outbound) Bind(r *grpcproxy.Relay, route func(h *grpcproxy.Headers) (*grpcproxy.Upstream, error, bool)) {
	o.upstreams.make = func(p place) *grpcproxy.Upstream {
		in := p.instance()
		return r.NewUpstream(p.address, connsEach, func(ctx context.Context) (net.Conn, error) { return o.Dial(ctx, in) })
	}
	r.Route = func(h *grpcproxy.Headers) (*grpcproxy.Upstream, error) {
		if route != nil && h.Tag == nil {
			if up, err, taken := route(h); taken {
				return up, err
			}
		}
		return o.route(h)
	}
	r.Response, r.Unreached, r.Attempted, r.Again, r.Late, r.Done = response, unreached, o.attempted, again, late, o.done
	r.MaxAttempts = maxAttempts
	r.Margins = max(r.Margins, 1)
}

// route answers where one attempt goes.
func (o *Outbound) route(h *grpcproxy.Headers) (*grpcproxy.Upstream, error) {
	c, again := h.Tag.(*call)
	if !again {
		var err error
		if c, err = o.plan(h); err != nil {
			return nil, api.RelayError(err)
		}
	}
	if c.plan == nil {
		if err := o.ask(c, h); err != nil {
			if pending, ok := mesh.IsPending(err); ok {
				pending.Wait(h.Later())
				return nil, grpcproxy.ErrLater
			}
			return nil, api.RelayError(err)
		}
	}
	to, err := c.plan.Next()
	if err != nil {
		return nil, flagged(err)
	}
	in := to.Instance()
	c.Upstream = in.Address
	up := o.upstreams.get(place{"grpc", in.Address, in.Identity, in.Direct})
	c.began(up, to)
	c.direct, c.dead = in.Direct, false
	if h.PerTry = c.plan.PerTry(); in.Direct {
		clean(h, "")
	} else {
		c.stamp(h)
	}
	return up, nil
}

// stamp writes what the peer's sidecar is to know.
func (c *call) stamp(h *grpcproxy.Headers) {
	h.Set(HeaderService, c.Service.Namespace+"/"+c.Service.Name)
	h.Set(HeaderSource, c.Source)
	h.Set(HeaderHops, strconv.Itoa(c.hops+1))
}

// flagged is the answer to a call that no instance takes.
func flagged(err error) error {
	e := api.RelayError(err)
	var relay *grpcproxy.Error
	if errors.As(e, &relay) && relay.Reason == string(mesh.ReasonBreaker) {
		relay.Flag = mesh.FlagBreaker
	}
	return e
}

// again asks the plan of a call whether it may be tried once more.
func again(tag any, f grpcproxy.Failed) bool {
	c, ok := tag.(*call)
	if !ok || c.plan == nil {
		return false
	}
	failure := mesh.Failure{Sent: f.Sent}
	switch f.Flag {
	case "":
		if f.Status == 13 && c.broke() { // what its sidecar would have had repeated, too
			failure.Kind = mesh.Closed
			break
		}
		failure.Kind, failure.Status = mesh.Status, strconv.Itoa(f.Status)
	case grpcproxy.FlagConnectFailed:
		failure.Kind = mesh.Connect
	case grpcproxy.FlagRefused:
		failure.Kind = mesh.Refused
	case grpcproxy.FlagReset:
		failure.Kind = mesh.Reset
	case grpcproxy.FlagTimeout:
		failure.Kind = mesh.Timeout
	default:
		failure.Kind = mesh.Closed
	}
	return c.plan.Again(failure)
}

// plan begins a request: it reads what it is for and makes its headers what the peer is to see.
func (o *Outbound) plan(h *grpcproxy.Headers) (*call, error) {
	s, ok := serviceOf(h, o.Caller)
	c := &call{Record: Record{Direction: "outbound", Protocol: "grpc", Service: s, Method: strings.TrimPrefix(h.Path(), "/"),
		Source: o.Caller.String(), Start: time.Now()}}
	h.Tag = c
	o.begun.Add(1)
	if !ok {
		o.Monitor.Begin(&c.Record)
		return nil, components.WithReason(fmt.Errorf("%w: %s is no method of the sidecar's own, and the call does not say which service it is for: "+
			"send the metadata %q, or the service's name as authority", components.ErrInvalid, h.Path(), HeaderService), mesh.ReasonNoService)
	}
	c.hops = hopsOf(h)
	c.repeatable = h.Get(HeaderIdempotent) == "true" || h.Get(keyHeader) != ""
	clean(h, "")
	c.trace(h, o.Monitor)
	setStateHops(h, c.Traceparent, c.hops+1)
	if o.Self != nil {
		var err error
		if c.self, err = o.Self.Enter(s); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ask has the engine plan the request.
func (o *Outbound) ask(c *call, h *grpcproxy.Headers) error {
	plan, err := o.Engine.Route(&mesh.Request{Protocol: c.Protocol, Service: c.Service, Method: c.Method, Source: o.Caller,
		Hops: c.hops, Timeout: h.Timeout, Header: h.Get, Repeatable: c.repeatable})
	if err != nil {
		return err
	}
	if h.Replay = mostUnheard; mesh.Repeatable(plan) {
		h.Replay = mostReplay
	}
	c.plan, c.Rule = plan, plan.Rule()
	if t := plan.Timeout(); t > 0 {
		h.Timeout = t
	}
	return nil
}

func (o *Outbound) sweep() { o.upstreams.sweep() }

// attempted reports an attempt that failed. Of one that did not, done knows more, unless its answer is followed by another attempt.
func (o *Outbound) attempted(tag any, up *grpcproxy.Upstream, flag string, err error) {
	c, ok := tag.(*call)
	switch {
	case !ok:
	case flag != "":
		c.ended(up, blame(flag, err))
	case err != nil:
		c.ended(up, mesh.Answered)
	}
}

// blame tells what a failed attempt says of the instance. One that sends calls away, as it does when it drains, is well. A
// timeout is held against it unless its answer had begun, since a machine that is gone shows itself in nothing else until its
// connection is given up; so that callers with little patience do not put it out of play, each answer to anyone makes up for it.
func blame(flag string, err error) mesh.Outcome {
	var e *grpcproxy.Error
	switch flag {
	case grpcproxy.FlagTimeout:
		if errors.As(err, &e) && e.Answered {
			return mesh.Answered
		}
		return mesh.Failed
	case grpcproxy.FlagConnectFailed:
		return mesh.Unreachable
	case grpcproxy.FlagClosed:
		return mesh.Failed
	case grpcproxy.FlagProtocol:
		if err != nil { // without, it was the client that broke it
			return mesh.Failed
		}
	}
	return mesh.Unknown
}

// late says of an answer that did not come which call it is about.
func late(tag any, e *grpcproxy.Error) {
	c, ok := tag.(*call)
	if !ok { // a method of the sidecar's own
		return
	}
	e.Message = c.Service.String() + ": " + e.Message
	if e.Metadata == nil {
		e.Metadata = map[string]string{}
	}
	e.Metadata["service"] = c.Service.String()
	if c.Upstream != "" {
		e.Metadata["instance"] = c.Upstream
	}
}

func (o *Outbound) done(out *grpcproxy.Outcome) {
	c, ok := out.Tag.(*call)
	if !ok {
		o.own.Add(1)
		return
	}
	o.ended.Add(1)
	if c.self {
		o.Self.Leave()
	}
	if out.Flag == "" {
		answered := mesh.Unknown // the client gave up
		switch {
		case c.dead:
			answered = mesh.Unreachable
		case out.Status >= 0:
			answered = mesh.Answered
		}
		c.ended(out.Upstream, answered)
	}
	c.finish(out, o.Monitor)
}

// Activity tells how many calls through the mesh are under way, and a count that grows with each call that ends, of the
// sidecar's API included. Of that one's calls under way server.UnderWay knows.
func (o *Outbound) Activity() (underWay, total int64) {
	ended := o.ended.Load()
	return o.begun.Load() - ended, ended + o.own.Load()
}

// unreached tells whether an answer is that of a sidecar whose application cannot be reached, or does not serve what it is called for (any more):
// nothing of the request was sent to it. Of one whose application has broken off, or speaks another protocol, it keeps that.
func unreached(h *grpcproxy.Headers) bool {
	c, ok := h.Tag.(*call)
	if !ok || c.direct || h.Get(HeaderOrigin) != "sidecar" {
		return false
	}
	switch h.Get("grpc-status") {
	case "14":
		reason := h.ErrorReason()
		if reason == grpcproxy.ReasonConnectionLost {
			c.lost()
		}
		return reason == grpcproxy.ReasonConnectFailed
	case "13":
		if h.ErrorReason() == grpcproxy.ReasonMalformed {
			c.lost()
		}
	case "5":
		return h.ErrorReason() == string(mesh.ReasonNotForThisApp)
	}
	return false
}

// response says whose answer it is: a sidecar's own answer was the peer's.
func response(h *grpcproxy.Headers, trailers bool) {
	if !h.End {
		clean(h, "")
		return
	}
	if c, ok := h.Tag.(*call); ok {
		if gone := unreached(h); !trailers { // else something was sent to it
			c.dead = gone
		}
	}
	clean(h, HeaderOrigin)
	switch h.Get(HeaderOrigin) {
	case "sidecar":
		h.Set(HeaderOrigin, "peer")
	case "peer":
	default:
		h.Set(HeaderOrigin, "app")
	}
}
