package runtime

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// The orderly end, in the order that loses nothing. Others are asked first not to call (unpublish), and still served until they
// have heard; then they are turned away, call by call, while those under way go on (turnAway). Only then the application that
// the sidecar has started is ended (stopChild), and its API and calls to others last (stopAPI): until it has gone, it may be
// finishing its own work.
//
// A sidecar that was replaced has all of it easier: whoever is turned away finds the other one behind the same sockets, which has
// published the same services. So it turns away everybody at once.

const (
	withdrawTime = 2 * time.Second         // for the registry to hear of it
	closeTime    = 1500 * time.Millisecond // for what is told of the end to close
	lingerCheck  = 20 * time.Millisecond
	settleTime   = 250 * time.Millisecond // for what was accepted last to have become a connection that can be sent away
)

// startDraining makes s.drained answer when draining must be over: drain.max after it was first asked. Once the end has begun no
// reload changes what it may take.
func (s *sidecar) startDraining() {
	s.drains = sync.OnceValue(func() config.Drain { return s.config().Drain })
	s.drained = sync.OnceValue(func() time.Time { return time.Now().Add(s.drains().Max) })
}

// drainTime is what the whole end may take.
func (s *sidecar) drainTime() time.Duration {
	return s.drains().Propagation + s.drains().Max + finish
}

// cutOff takes it that not all had ended in time: that is what drain.max is for.
func (s *sidecar) cutOff(what string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		s.log.Warn("cut off at the end of draining", "what", what)
		return nil
	}
	return err
}

// unpublish has others not call, and waits until they have heard of it.
func (s *sidecar) unpublish(ctx context.Context) error {
	s.ending.Store(true)
	s.drain()
	s.drained() // the time begins to run
	next := s.after.Load()
	if next != nil {
		s.stopAccepting(ctx, next)
	}
	err := s.withdraw(ctx)
	s.inbound.http1.Leave()
	if next != nil && next.has("inbound") {
		return err // nobody needs to hear of it
	}
	if s.childEnded() {
		return err // there is nobody who could serve them
	}
	select {
	case <-ctx.Done():
	case <-s.childGone():
	case <-time.After(s.drains().Propagation):
	}
	return err
}

// stopAccepting leaves the sockets to the sidecar that has replaced this one, and sends the application's clients there.
func (s *sidecar) stopAccepting(ctx context.Context, next *successor) {
	s.tasks.Go(func() { // what it was asked, it still answers
		limit, cancel := context.WithDeadline(s.cut, s.drained())
		defer cancel()
		s.admin.Close(limit)
	})
	left := append(s.sockets.calls(), s.sockets.http)
	if next.has("inbound") {
		left = append(left, s.sockets.inbound)
	}
	for _, ln := range left {
		if ln != nil {
			ln.Close()
		}
	}
	select {
	case <-time.After(settleTime):
	case <-ctx.Done():
	}
	s.leaving = make(chan error, 1)
	go func() {
		limit, cancel := context.WithDeadline(s.cut, s.drained())
		defer cancel()
		s.api.Leave()
		s.api.http1.relay.Leave()
		s.quietHTTP(limit)
		s.leaving <- s.api.Shutdown(limit)
	}()
}

// quietHTTP waits until the clients of HTTP have closed their connections, which they do after an answer, or have been quiet for
// so long that they will not send a request just when theirs is closed.
func (s *sidecar) quietHTTP(ctx context.Context) {
	tick := time.NewTicker(lingerCheck)
	defer tick.Stop()
	var seen int64
	for quiet := time.Now(); s.http.open() > 0 && time.Since(quiet) < s.drains().Quiet; {
		if n := s.http.reads.Load(); n != seen {
			quiet, seen = time.Now(), n
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *sidecar) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, withdrawTime)
	defer cancel()
	return s.publisher.Withdraw(ctx)
}

// turnAway lets the calls of others that are under way end. Streams may take for ever: those get half of what draining may take
// while the application does not know of the end yet, and go on after that until stopInbound.
func (s *sidecar) turnAway(ctx context.Context) error {
	s.turn()
	s.sockets.inbound.Close()
	i := s.inbound
	limit, cancel := context.WithDeadline(context.WithoutCancel(ctx), s.drained())
	i.cancel = cancel
	i.leaving = make(chan error, 1)
	go func() {
		i.leaving <- together(limit, i.server.Shutdown, i.rpc.Shutdown, i.http1.Shutdown, i.tcp.Shutdown)
	}()
	select {
	case err := <-i.leaving:
		i.leaving <- err
	case <-s.childGone():
	case <-time.After(time.Until(s.drained()) / 2):
	case <-ctx.Done():
	}
	return nil
}

func (s *sidecar) stopChild(ctx context.Context) error {
	c := s.child.Load()
	if c == nil {
		return nil
	}
	limit, cancel := context.WithDeadline(ctx, s.drained())
	defer cancel()
	return c.stop(limit, s.farewell())
}

// stopAPI ends the application's side when it has gone, or after as long as draining may take.
func (s *sidecar) stopAPI(ctx context.Context) error {
	if s.leaving != nil {
		s.branches.stop()
		return s.cutOff("calls of the application", errors.Join(<-s.leaving, s.api.invoker.Close(ctx)))
	}
	s.linger(ctx)
	s.closing.Store(true)
	s.branches.stop()
	for _, ln := range s.sockets.calls() {
		if ln != nil {
			ln.Close()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	return s.cutOff("calls of the application", errors.Join(s.api.Shutdown(ctx), s.api.invoker.Close(ctx)))
}

// linger waits until the application has no connection left, of gRPC or HTTP, or has been quiet for a while: one that does not know
// of the end keeps its connections for ever. One that ended as the sidecar's child has gone.
func (s *sidecar) linger(ctx context.Context) {
	limit := time.After(time.Until(s.drained()))
	tick := time.NewTicker(lingerCheck)
	defer tick.Stop()
	var seen int64
	quiet := time.Now()
	for told := false; !s.childEnded() && s.api.clients()+s.http.open() > 0; {
		if underWay, total := s.activity(); underWay > 0 || total != seen {
			quiet, seen = time.Now(), total
		}
		if time.Since(quiet) >= s.drains().Quiet {
			return
		}
		if !told {
			told = true
			s.log.Info("draining: the application may finish its work; a second signal ends it at once", "quiet", s.drains().Quiet,
				"until", s.drained())
		}
		select {
		case <-ctx.Done():
			return
		case <-limit:
			return
		case <-tick.C:
		}
	}
}

// activity tells how many of the application's calls are under way, to others and to the sidecar itself, and a count that grows with
// whatever it does.
func (s *sidecar) activity() (underWay, total int64) {
	for _, o := range s.api.outbounds {
		u, t := o.Activity()
		underWay, total = underWay+u, total+t
	}
	for _, more := range []func() (int64, int64){s.api.rpc.out.Activity, s.api.http1.out.Activity, s.api.tcp.Activity} {
		u, t := more()
		underWay, total = underWay+u, total+t
	}
	return underWay + s.api.UnderWay(), total + s.http.reads.Load()
}

// stopInbound cuts off what others' calls are left.
func (s *sidecar) stopInbound(ctx context.Context) (err error) {
	i := s.inbound
	s.sockets.inbound.Close()
	if i.leaving != nil {
		stop := context.AfterFunc(ctx, i.cancel)
		err = s.cutOff("calls of others", <-i.leaving)
		stop()
		i.cancel()
	}
	i.server.Close()
	i.rpc.Close()
	i.http1.Close()
	i.dispatch.Close()
	i.app.Close()
	return err
}

// counted is a listener that knows how many of its connections are open, and how often something came on one.
type counted struct {
	net.Listener
	n     atomic.Int64
	reads atomic.Int64
}

func (l *counted) open() int { return int(l.n.Load()) }

func (l *counted) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.n.Add(1)
	return &countedConn{Conn: nc, l: l}, nil
}

type countedConn struct {
	net.Conn
	l    *counted
	once atomic.Bool
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.l.reads.Add(1)
	}
	return n, err
}

func (c *countedConn) Close() error {
	if !c.once.Swap(true) {
		c.l.n.Add(-1)
	}
	return c.Conn.Close()
}

// together does all at once, and waits for them.
func together(ctx context.Context, all ...func(context.Context) error) error {
	errs := make([]error, len(all))
	var tasks sync.WaitGroup
	for i, do := range all {
		tasks.Go(func() { errs[i] = do(ctx) })
	}
	tasks.Wait()
	return errors.Join(errs...)
}
