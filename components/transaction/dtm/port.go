package dtm

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
)

// session is the time in which the branches of an application are called.
type session struct {
	d           *driver
	application string
	call        transaction.Caller
	life        context.Context // of calls
	port        *port

	mu    sync.Mutex
	ended bool
	work  sync.WaitGroup // calls, and what DTM has asked for
}

// Drive implements transaction.Driver: while it runs, the port is listened on.
func (d *driver) Drive(ctx context.Context, application string, call transaction.Caller) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.options.Listen)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		deaf := fmt.Errorf("DTM cannot call this sidecar: %w", err)
		if d.deaf.Swap(&deaf) == nil {
			d.log.Error("branches of transactions are not called", "op", "drive", "err", deaf)
		}
		return fmt.Errorf("%w: %w", components.ErrUnavailable, deaf)
	}
	d.deaf.Store(nil)
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s := &session{d: d, application: application, call: call, life: life, port: &port{Listener: listener, all: map[string]net.Conn{}}}
	server := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(s.serve), grpc.ConnectionTimeout(d.options.RequestTimeout),
		grpc.MaxRecvMsgSize(2*transaction.MaxContent), grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(connWindow))
	d.driving.Store(s)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(s.port) }()
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.tend(life) }()
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-ended:
		ended <- err
		err = fmt.Errorf("%w: driving has ended: %w", components.ErrUnavailable, err)
	}
	d.driving.CompareAndSwap(s, nil)
	s.end()
	end() // calls under way are cancelled: what became of them is found out when DTM calls again
	s.work.Wait()
	halt := time.AfterFunc(time.Second, server.Stop) // what DTM has just begun to ask
	server.GracefulStop()
	halt.Stop()
	<-ended
	<-stopped
	return err
}

// enter tells whether something may begin.
func (s *session) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.work.Add(1)
	}
	return !s.ended
}

func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// serve answers a call of DTM's: nothing, ABORTED for what has failed, FAILED_PRECONDITION for what DTM is to ask for again.
func (s *session) serve(_ any, stream grpc.ServerStream) error {
	var body []byte
	if err := stream.RecvMsg(&body); err != nil {
		return err
	}
	method, _ := grpc.MethodFromServerStream(stream)
	md, _ := metadata.FromIncomingContext(stream.Context())
	first := func(name string) string {
		if v := md.Get(name); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	gid := first("dtm-gid")
	if !strings.HasPrefix(method, service) || !hmac.Equal([]byte(method), []byte(s.d.path(gid))) {
		s.d.log.Warn("a call of a branch is refused: it does not come from the DTM that was told of the transaction, or the token is another one", "op", "drive")
		return status.Error(codes.PermissionDenied, "whoever calls does not know the token")
	}
	if !s.enter() {
		return s.away(stream.Context())
	}
	defer s.work.Done()
	op := first("dtm-op")
	failpoint.Hit("dtm.asked", operations[op])
	err := s.branch(stream.Context(), gid, op, body)
	if err == nil || transaction.HasFailed(err) {
		failpoint.Hit("dtm.tells", operations[op])
	}
	switch {
	case err == nil:
		return stream.SendMsg([]byte{})
	case transaction.HasFailed(err):
		return status.Error(codes.Aborted, reason(err)+" FAILURE")
	case errors.Is(err, errOthers):
		return s.away(stream.Context())
	case errors.Is(err, errForged):
		s.d.log.Warn("a call of a branch is refused", "op", "drive", "gid", gid, "err", err)
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.Is(err, errOngoing):
		return status.Error(codes.FailedPrecondition, "ONGOING")
	}
	s.d.log.Debug("a branch cannot be called yet", "op", "drive", "gid", gid, "err", err)
	return status.Error(codes.FailedPrecondition, "ONGOING")
}

// away ends the connection, on which another sidecar may be found by the address that DTM calls.
func (s *session) away(ctx context.Context) error {
	if p, ok := peer.FromContext(ctx); ok {
		s.port.cut(p.Addr.String())
	}
	return status.Error(codes.Unavailable, errOthers.Error())
}

var errOthers = errors.New("the branches of the application are not called here")

// branch makes what DTM asks for.
func (s *session) branch(ctx context.Context, gid, op string, body []byte) error {
	key, ok := s.d.keyOf(gid)
	if !ok || application(key) != s.application {
		return errOthers
	}
	k, err := s.d.knows(ctx, gid, key)
	if err != nil {
		return err
	}
	if k.isStopped() { // DTM's store in a file has forgotten it
		if err := s.d.web.stop(ctx, gid); err != nil {
			s.d.log.Debug("what was given up is not stopped", "op", "drive", "gid", key, "err", err)
		}
		return errOngoing
	}
	ours := operations[op]
	if op == checkOp {
		return s.attempt(ctx, k, transaction.CheckBranch, ours, &k.check)
	}
	b, err := s.d.unseal(gid, body)
	if err != nil {
		return err
	}
	var target *transaction.Target
	switch op {
	case actionOp:
		target = &b.Do
	case confirmOp:
		target = &b.Confirm
	case compensateOp, cancelOp:
		committed := false
		if op == cancelOp {
			if committed, err = s.d.isCommitted(ctx, gid, k); err != nil {
				return err
			}
		}
		if committed {
			ours, target = transaction.OpConfirm, &b.Confirm
			break
		}
		target = &b.Undo
		s.undoes(k)
	}
	if target == nil || target.IsZero() {
		return nil
	}
	if k.kind == transaction.Saga {
		if err := s.d.isStored(ctx, gid, k); err != nil {
			return err
		}
		s.d.sayBegun(k)
	}
	if err := s.wanted(ctx, gid, k, b.ID, ours); err != nil {
		return err
	}
	return s.attempt(ctx, k, b.ID, ours, target)
}

// wanted looks, before an action of a saga is called again, or for one begun elsewhere, whether the saga was aborted meanwhile.
func (s *session) wanted(ctx context.Context, gid string, k *known, id, op string) error {
	if k.kind != transaction.Saga || op != transaction.OpAction {
		return nil
	}
	k.mu.Lock()
	b := k.branch(id)
	look := (b.attempts > 0 || !k.own) && b.outcome == unknown && b.call == nil && k.refused == nil && !time.Now().Before(b.next)
	k.mu.Unlock()
	if !look {
		return nil
	}
	aborted, err := s.d.web.exists(ctx, gid+abortMark)
	if aborted {
		k.refuse()
	}
	return err
}

func (s *session) undoes(k *known) {
	k.mu.Lock()
	first := !k.undoing
	k.undoing = true
	branch := ""
	for id, b := range k.branches {
		if b.outcome == failed {
			branch = id
		}
	}
	k.mu.Unlock()
	if first {
		s.d.say(k.key, transaction.Aborting, branch)
	}
}

// tend forgets what is over, and has DTM look at what it has put off for too long: each time that it reaches nobody it waits twice as long.
func (s *session) tend(ctx context.Context) {
	within := 2*s.d.options.RetryInterval + slack
	s.find(ctx, within)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var due time.Time
	for pause := within; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if !s.d.tidy(now, s.application, within) {
				pause = within
				continue
			}
			if now.Before(due) {
				continue
			}
			if err := s.d.web.lookAtAll(ctx, within); err != nil {
				s.d.log.Debug("dtm does not look at what waits", "op", "drive", "err", err)
			}
			due, pause = now.Add(pause), min(2*pause, maxLook)
		}
	}
}

const (
	slack   = 5 * time.Second // of DTM's clock and its pauses between looks
	maxLook = 5 * time.Minute
)

// find has DTM look at transactions of the application that it has put off while no sidecar was there.
func (s *session) find(ctx context.Context, within time.Duration) {
	late := false
	for _, where := range []string{statusSubmitted, statusAborting} {
		if err := s.d.web.scan(ctx, where, time.Time{}, func(r *row) {
			key, ours := s.d.keyOf(r.Gid)
			late = late || ours && application(key) == s.application && r.NextCronTime != nil && time.Until(*r.NextCronTime) > within
		}); err != nil {
			s.d.log.Debug("what is left to do is not known", "op", "drive", "err", err)
			return
		}
	}
	if late {
		_ = s.d.web.lookAtAll(ctx, within)
	}
}

// port is what DTM connects to. Its connections can be cut.
type port struct {
	net.Listener
	mu  sync.Mutex
	all map[string]net.Conn // by the address of the other end
}

// Accept implements net.Listener.
func (p *port) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[c.RemoteAddr().String()] = c
	return &connection{c, p}, nil
}

func (p *port) cut(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.all[address]; c != nil {
		_ = c.Close()
	}
}

type connection struct {
	net.Conn
	port *port
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.port.mu.Lock()
	delete(c.port.all, c.RemoteAddr().String())
	c.port.mu.Unlock()
	return c.Conn.Close()
}

// raw hands on what DTM sends as it is.
type raw struct{}

// Marshal implements encoding.CodecV2.
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

// Unmarshal implements encoding.CodecV2.
func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// Name implements encoding.CodecV2.
func (raw) Name() string { return "raw" }
