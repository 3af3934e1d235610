package proxy

import (
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

// rpcCall is a request of a framed protocol between Route and Done. The relay's hooks for one call come one after the other.
type rpcCall struct {
	Record
	plan     mesh.Plan
	hops     int          // sidecars passed before this one
	open     mesh.Attempt // begun and not reported
	admitted bool         // the gate must hear of the end
	self     bool         // the application calls itself, which is counted
}

func (c *rpcCall) report(o mesh.Outcome) {
	if c.open != nil {
		c.open.Report(o)
		c.open = nil
	}
}

// trace hands the request's trace context to the monitor and sends on what it made of it.
func (c *rpcCall) trace(k *rpcproxy.Call, m Monitor) {
	parent, state := k.Header("traceparent"), k.Header("tracestate")
	c.Traceparent, c.Tracestate = parent, state
	m.Begin(&c.Record)
	if parent == "" { // one that the request brings cannot be replaced, and stays
		setHeader(k, "traceparent", c.Traceparent)
		setHeader(k, "tracestate", c.Tracestate)
	}
}

func setHeader(k *rpcproxy.Call, name, value string) {
	if value != "" {
		k.Set = append(k.Set, rpcproxy.Header{Name: name, Value: value})
	}
}

// finish tells the monitor how the request ended.
func (c *rpcCall) finish(o *rpcproxy.Outcome, m Monitor) {
	c.Attempts, c.Flag, c.Code = o.Attempts, o.Flag, o.Code
	if c.Status = ""; o.Status >= 0 {
		c.Status = strconv.Itoa(o.Status)
	}
	c.Sent, c.Received, c.Duration = int64(o.Sent), int64(o.Received), o.Duration
	m.End(&c.Record)
}

// rpcHops reads how many sidecars a request has passed.
func rpcHops(k *rpcproxy.Call) int {
	hops := parseHops(k.Header(HeaderHops))
	if state := k.Header("tracestate"); state != "" && traced(k.Header("traceparent")) {
		return max(hops, stateHops(state))
	}
	return hops
}

// rpcService is the service that a request is for. A sidecar before this one, or an application that knows of sidecars, may name
// another namespace, or another service altogether.
func rpcService(k *rpcproxy.Call, namespace string) (mesh.Service, bool) {
	s := mesh.Service{Namespace: namespace, Name: k.Service, Version: k.Version, Group: k.Group, Protocol: k.Protocol()}
	if name := k.Header(HeaderService); name != "" {
		other, ok := ParseService(name, namespace)
		if !ok {
			return s, false
		}
		s.Namespace, s.Name = other.Namespace, other.Name
	}
	_, ok := checked(s.Namespace, s.Name)
	return naming.Canonical(s), ok
}

// rpcError is what callers are told of an error.
func rpcError(err error) *rpcproxy.Error {
	e, flag := api.RelayError(err), rpcproxy.FlagNoRoute
	if e.Reason == string(mesh.ReasonBreaker) {
		flag = mesh.FlagBreaker
	}
	return &rpcproxy.Error{Flag: flag, Code: e.Code, Reason: components.Reason(e.Reason), Message: e.Message}
}

// notHere tells whether an instance, or its sidecar, says that what it is called for is not served there (any more).
func notHere(e *rpcproxy.Error) bool { return e.Reason == rpcproxy.ReasonNotHere && !e.Sent }

// rpcFailure is how an attempt failed, for the plan.
func rpcFailure(e *rpcproxy.Error, status string) mesh.Failure {
	f := mesh.Failure{Sent: e.Sent, Status: status}
	switch {
	case notHere(e):
		f.Kind = mesh.NotHere
	case e.Flag == rpcproxy.FlagConnectFailed:
		f.Kind = mesh.Connect
	case e.Flag == rpcproxy.FlagTimeout:
		f.Kind = mesh.Timeout
	case e.Flag == rpcproxy.FlagClosed:
		f.Kind = mesh.Closed
	default: // an answer, which says that it was not handled
		if f.Kind = mesh.Refused; status != "" {
			f.Kind = mesh.Status
		}
	}
	return f
}

// rpcBlame tells what a failed attempt says of the instance.
func rpcBlame(e *rpcproxy.Error) mesh.Outcome {
	switch {
	case e.Flag == rpcproxy.FlagConnectFailed, notHere(e):
		return mesh.Unreachable
	case e.Flag == rpcproxy.FlagClosed, e.Flag == rpcproxy.FlagTimeout:
		return mesh.Failed
	case e.Flag == rpcproxy.FlagRefused:
		return mesh.Answered
	}
	return mesh.Unknown
}

// newRPC begins the record of a request.
func newRPC(k *rpcproxy.Call, direction, source string, s mesh.Service) *rpcCall {
	return &rpcCall{Record: Record{Direction: direction, Protocol: k.Protocol(), Service: s, Method: strings.TrimPrefix(k.Method, "/"), Source: source,
		Rule: "default", Start: time.Now()}}
}

// refusedRPC tells the monitor of a request that the relay refused before it asked for a route: it could not be read, or was one too many.
func refusedRPC(direction, namespace string, o *rpcproxy.Outcome, m Monitor) {
	s := mesh.Service{}
	if o.Flag != rpcproxy.FlagProtocol {
		s, _ = rpcService(o.Call, namespace)
	}
	c := newRPC(o.Call, direction, o.Call.Header(HeaderSource), s)
	c.Rule, c.Start = "", o.Start
	m.Begin(&c.Record)
	c.finish(o, m)
}
