package proxy

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

// RPCOutbound sends the application's calls of Bolt and Dubbo where the engine says. Set its fields, then Bind it to a relay.
type RPCOutbound struct {
	Engine  mesh.Engine
	Monitor Monitor
	Caller  components.Caller // the application beside this sidecar
	Self    *mesh.SelfCalls   // bounds its calls to itself; nil: nothing does
	Codecs  map[string]rpcproxy.Codec
	// Admit lets a request in by what OnConn of the relay said of its connection, and by its headers; nil: all.
	Admit func(tag any, header func(name string) string) error
	// Dial connects to an instance.
	Dial func(ctx context.Context, in *mesh.Instance) (net.Conn, error)

	relay     *rpcproxy.Relay
	begun     atomic.Int64
	ended     atomic.Int64
	upstreams pool[place, *rpcproxy.Upstream]
}

// Bind makes r the relay of this outbound side: its hooks are set. Calls are answered a margin before their deadline.
func (o *RPCOutbound) Bind(r *rpcproxy.Relay) {
	o.relay = r
	o.upstreams.make = func(p place) *rpcproxy.Upstream {
		in := p.instance()
		up := r.NewUpstream(p.address, o.Codecs[p.protocol], connsEach, func(ctx context.Context) (net.Conn, error) { return o.Dial(ctx, in) })
		up.Sidecar = !in.Direct
		return up
	}
	r.Strip, r.Margin = headerPrefix, grpcproxy.Margin
	r.Route, r.Again, r.Attempted, r.Late, r.Done = o.route, o.again, o.attempted, rpcLate, o.done
}

// route answers where one attempt goes.
func (o *RPCOutbound) route(k *rpcproxy.Call) (*rpcproxy.Upstream, error) {
	c, again := k.Tag.(*rpcCall)
	if !again {
		var err error
		if c, err = o.begin(k); err != nil {
			return nil, rpcError(err)
		}
	}
	if c.plan == nil {
		if err := o.ask(c, k); err != nil {
			if pending, ok := mesh.IsPending(err); ok {
				pending.Wait(k.Later())
				return nil, rpcproxy.ErrLater
			}
			e := rpcError(err)
			e.Message += fmt.Sprintf(" (asked for: %s, version %q, group %q, %s)", c.Service.Name, c.Service.Version, c.Service.Group, c.Protocol)
			return nil, e
		}
	}
	to, err := c.plan.Next()
	if err != nil {
		return nil, rpcError(err)
	}
	c.open = to
	in := to.Instance()
	c.Upstream, k.PerTry = in.Address, c.plan.PerTry()
	o.address(c, k, in)
	return o.upstreams.get(place{k.Protocol(), in.Address, in.Identity, in.Direct}), nil
}

// address has the request say what the instance's sidecar needs to know; an application without one needs nothing.
func (o *RPCOutbound) address(c *rpcCall, k *rpcproxy.Call, in *mesh.Instance) {
	n := 0
	for _, h := range k.Set { // of an attempt before
		if h.Name != HeaderService && h.Name != HeaderSource && h.Name != HeaderHops {
			k.Set[n] = h
			n++
		}
	}
	k.Set = k.Set[:n]
	if !in.Direct {
		k.Set = append(k.Set, rpcproxy.Header{Name: HeaderService, Value: c.Service.Namespace + "/" + c.Service.Name},
			rpcproxy.Header{Name: HeaderSource, Value: c.Source}, rpcproxy.Header{Name: HeaderHops, Value: strconv.Itoa(c.hops + 1)})
	}
}

// begin reads what a request is for.
func (o *RPCOutbound) begin(k *rpcproxy.Call) (*rpcCall, error) {
	s, ok := rpcService(k, o.Caller.Namespace)
	c := newRPC(k, "outbound", o.Caller.String(), s)
	k.Tag = c
	o.begun.Add(1)
	if !ok {
		o.Monitor.Begin(&c.Record)
		return nil, components.WithReason(fmt.Errorf("%w: %.300q is no name of a service", components.ErrInvalid, k.Service), mesh.ReasonNoService)
	}
	c.hops = rpcHops(k)
	c.trace(k, o.Monitor)
	if o.Admit != nil {
		if err := o.Admit(k.ConnTag, k.Header); err != nil {
			return nil, err
		}
	}
	if o.Self != nil {
		var err error
		if c.self, err = o.Self.Enter(s); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ask has the engine plan the request.
func (o *RPCOutbound) ask(c *rpcCall, k *rpcproxy.Call) error {
	plan, err := o.Engine.Route(&mesh.Request{Protocol: c.Protocol, Service: c.Service, Method: c.Method, Source: o.Caller,
		Hops: c.hops, Timeout: k.Timeout, Header: k.Header})
	if err != nil {
		return err
	}
	c.plan, c.Rule = plan, plan.Rule()
	if t := plan.Timeout(); t > 0 {
		k.Timeout = t
	}
	return nil
}

func (o *RPCOutbound) again(k *rpcproxy.Call, e *rpcproxy.Error, status int) bool {
	c := k.Tag.(*rpcCall)
	text := ""
	if status >= 0 {
		text = strconv.Itoa(status)
	}
	return c.plan.Again(rpcFailure(e, text))
}

func (o *RPCOutbound) attempted(k *rpcproxy.Call, _ *rpcproxy.Upstream, e *rpcproxy.Error) {
	k.Tag.(*rpcCall).report(rpcBlame(e))
}

// rpcLate says of an answer that did not come which call it is about.
func rpcLate(k *rpcproxy.Call, e *rpcproxy.Error) {
	if c, ok := k.Tag.(*rpcCall); ok {
		e.Message = c.Service.String() + ": " + e.Message
	}
}

func (o *RPCOutbound) done(out *rpcproxy.Outcome) {
	c, ok := out.Call.Tag.(*rpcCall)
	if !ok {
		refusedRPC("outbound", o.Caller.Namespace, out, o.Monitor)
		return
	}
	o.ended.Add(1)
	if c.self {
		o.Self.Leave()
	}
	answered := mesh.Unknown // the client gave up, or waits for no answer
	if out.Status >= 0 {
		answered = mesh.Answered
	}
	c.report(answered)
	c.finish(out, o.Monitor)
}

// Activity tells how many calls are under way, and a count that grows with each call that ends.
func (o *RPCOutbound) Activity() (underWay, total int64) {
	ended := o.ended.Load()
	return o.begun.Load() - ended, ended
}

func (o *RPCOutbound) sweep() { o.upstreams.sweep() }
