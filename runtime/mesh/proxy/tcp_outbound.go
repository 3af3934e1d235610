package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/internal/upkeep"
)

// TCPOutbound joins connections of the application to those of an instance that the engine names. Until one has taken it nothing of a
// connection was sent, so that it may go to another instance; then it stays where it is. Set its fields.
type TCPOutbound struct {
	Engine  mesh.Engine
	Monitor Monitor
	Caller  components.Caller // the application beside this sidecar
	Self    *mesh.SelfCalls   // bounds its calls to itself; nil: nothing does
	// Admit lets a connection in; nil: all.
	Admit func(nc net.Conn) error
	// Dial connects to an instance.
	Dial func(ctx context.Context, in *mesh.Instance) (net.Conn, error)

	begun, ended atomic.Int64
	warned       atomic.Int64 // when the log was last told of a connection that failed
	tunnels
}

// Serve takes the connections of a listener, which are all for one service, until it is closed. warn is told of what goes wrong.
func (o *TCPOutbound) Serve(ln net.Listener, s mesh.Service, warn func(what string, args ...any)) error {
	s.Protocol = mesh.TCP
	end := make(chan struct{})
	defer close(end)
	return grpcproxy.Accept(ln, end, func(err error) { warn("connection cannot be accepted", "err", err) }, func(nc net.Conn) {
		if !o.begin(nc) {
			upkeep.Reset(nc)
			return
		}
		go func() {
			defer o.tunnels.end(nc)
			if err := o.serve(nc, s); err != nil {
				upkeep.Reset(nc) // of all that is said by TCP only this says that it failed
				if now, last := time.Now().UnixNano(), o.warned.Load(); now-last > int64(logEvery) && o.warned.CompareAndSwap(last, now) {
					warn("a connection leads nowhere", "service", s.String(), "err", err)
				}
			}
		}()
	})
}

// serve answers why a connection could not be made.
func (o *TCPOutbound) serve(nc net.Conn, s mesh.Service) (err error) {
	c := &call{Record: Record{Direction: "outbound", Protocol: mesh.TCP, Service: s, Source: o.Caller.String(), Start: time.Now()}}
	o.begun.Add(1)
	o.Monitor.Begin(&c.Record)
	var to mesh.Attempt
	outcome := mesh.Answered
	defer func() {
		if to != nil {
			to.Report(outcome)
		}
		if c.self {
			o.Self.Leave()
		}
		if err != nil {
			e := api.RelayError(err)
			if c.Code = e.Code; e.Reason == string(mesh.ReasonBreaker) {
				c.Flag = mesh.FlagBreaker
			}
		}
		c.Duration = time.Since(c.Start)
		o.ended.Add(1)
		o.Monitor.End(&c.Record)
	}()
	c.Flag = grpcproxy.FlagNoRoute
	if o.Admit != nil {
		if err = o.Admit(nc); err != nil {
			return err
		}
	}
	if o.Self != nil {
		if c.self, err = o.Self.Enter(s); err != nil {
			return err
		}
	}
	up, to, err := o.connect(c)
	if err != nil {
		return err
	}
	c.Flag = ""
	var broken error
	if c.Sent, c.Received, broken = join(nc, up); broken != nil {
		c.Flag, c.Code = grpcproxy.FlagClosed, 14
		outcome = mesh.Unknown // by whichever side: it says nothing good of an instance that may be out of play meanwhile
	}
	return nil
}

// connect makes a connection to one instance after the other, as far as the plan lets it.
func (o *TCPOutbound) connect(c *call) (net.Conn, mesh.Attempt, error) {
	plan, err := o.plan(c)
	if err != nil {
		return nil, nil, err
	}
	c.Rule = plan.Rule()
	limit := time.Time{}
	if t := plan.Timeout(); t > 0 { // it is for the connection to be made: how long that lasts nobody knows
		limit = c.Start.Add(t)
	}
	for {
		to, err := plan.Next()
		if err != nil {
			return nil, nil, err
		}
		c.Attempts++
		patience := tcpConnect
		if t := plan.PerTry(); t > 0 {
			patience = t
		}
		end := time.Now().Add(patience)
		last := !limit.IsZero() && limit.Before(end)
		if last {
			end = limit
		}
		up, err := o.attempt(to.Instance(), c, end)
		if err == nil {
			return up, to, nil
		}
		failure, outcome, flag, err := tcpFailure(err, to.Instance().Address)
		if o.ctx.Err() != nil {
			to.Report(mesh.Unknown)
			return nil, nil, errEnding
		}
		to.Report(outcome)
		if c.Flag = flag; last && flag == grpcproxy.FlagTimeout || !plan.Again(failure) {
			return nil, nil, err
		}
	}
}

// plan waits until the engine knows the service's instances.
func (o *TCPOutbound) plan(c *call) (mesh.Plan, error) {
	late := time.NewTimer(tcpKnown)
	defer late.Stop()
	for {
		plan, err := o.Engine.Route(&mesh.Request{Protocol: mesh.TCP, Service: c.Service, Source: o.Caller, Header: noHeader})
		pending, ok := mesh.IsPending(err)
		if !ok {
			return plan, err
		}
		known := make(chan struct{})
		pending.Wait(func() { close(known) })
		select {
		case <-known:
		case <-late.C:
			return nil, fmt.Errorf("%w: the instances of %s are not known yet", components.ErrUnavailable, c.Service)
		case <-o.ctx.Done():
			return nil, errEnding
		}
	}
}

func (o *TCPOutbound) attempt(in *mesh.Instance, c *call, end time.Time) (net.Conn, error) {
	c.Upstream = in.Address
	ctx, cancel := context.WithDeadline(o.ctx, end)
	defer cancel()
	up, err := o.Dial(ctx, in)
	if err != nil || in.Direct {
		return up, err
	}
	up.SetDeadline(end)
	stop := context.AfterFunc(o.ctx, func() { up.SetDeadline(time.Now()) })
	defer stop()
	if _, err = fmt.Fprintf(up, "%s%s %s 1\n", tcpBegin, c.Service, c.Source); err == nil {
		err = readTaken(up)
	}
	if err != nil {
		up.Close()
		return nil, &begunError{err}
	}
	up.SetDeadline(time.Time{})
	return up, nil
}

var errEnding = fmt.Errorf("%w: the sidecar is ending", components.ErrUnavailable)

// begunError is one of an instance that was connected.
type begunError struct{ error }

func (e *begunError) Unwrap() error { return e.error }

// tcpFailure is what an attempt that failed is to the plan, what it says of the instance, its flag, and what the caller is told.
func tcpFailure(err error, address string) (f mesh.Failure, o mesh.Outcome, flag string, told error) {
	var refused *errRefused
	var begun *begunError
	slow := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case errors.As(err, &refused):
		told = components.WithReason(fmt.Errorf("%w: %s says: %s", components.ErrUnavailable, address, refused.text), refused.reason)
		if refused.unreached() {
			return mesh.Failure{Kind: mesh.Connect}, mesh.Unreachable, grpcproxy.FlagConnectFailed, told
		}
		return mesh.Failure{Kind: mesh.Refused}, mesh.Answered, grpcproxy.FlagRefused, told
	case slow:
		told = components.WithReason(fmt.Errorf("%w: %s has not answered in time: %w", components.ErrUnavailable, address, err), "TIMEOUT")
		return mesh.Failure{Kind: mesh.Timeout}, mesh.Failed, grpcproxy.FlagTimeout, told
	case errors.As(err, &begun):
		told = components.WithReason(fmt.Errorf("%w: %s has ended the connection: %w", components.ErrUnavailable, address, err), grpcproxy.ReasonConnectionLost)
		return mesh.Failure{Kind: mesh.Closed}, mesh.Failed, grpcproxy.FlagClosed, told
	}
	told = components.WithReason(fmt.Errorf("%w: cannot connect to %s: %w", components.ErrUnavailable, address, err), grpcproxy.ReasonConnectFailed)
	return mesh.Failure{Kind: mesh.Connect}, mesh.Unreachable, grpcproxy.FlagConnectFailed, told
}

// Activity tells how many connections are open, and a count that grows with each that ends.
func (o *TCPOutbound) Activity() (underWay, total int64) {
	ended := o.ended.Load()
	return o.begun.Load() - ended, ended
}
