package grpcproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// parked collects what Route promised for later.
type parked struct {
	mu     sync.Mutex
	resume []func()
	asked  atomic.Int64 // with Resumed set
}

func (p *parked) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.resume)
}

func (p *parked) all() {
	p.mu.Lock()
	fs := p.resume
	p.resume = nil
	p.mu.Unlock()
	for _, f := range fs {
		f()
		f()
	}
}

func laterEnv(t *testing.T, p *parked, set func(*Relay)) *env {
	e := newEnv(t, set)
	e.r.Route = func(h *Headers) (*Upstream, error) {
		if h.Resumed {
			if p.asked.Add(1); h.Attempt != 0 || h.Get("q") != "1" {
				return nil, errors.New("asked in other words")
			}
			return e.up, nil
		}
		resume := h.Later()
		p.mu.Lock()
		p.resume = append(p.resume, resume)
		p.mu.Unlock()
		return nil, ErrLater
	}
	return e
}

func TestRouteLater(t *testing.T) {
	var p parked
	e := laterEnv(t, &p, nil)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got, err := unary(do("q", "1"), e.cc, make([]byte, 100<<10)); err != nil || len(got) != 100<<10 {
				t.Error(err)
			}
		})
	}
	eventually(t, "all wait", func() bool { return p.len() == 50 })
	p.all()
	wg.Wait()
	e.outcome(func(o Outcome) bool { return o.Attempts == 1 && o.Upstream == e.up && o.Flag == "" })
	if n := p.asked.Load(); n != 50 || e.r.parked.Load() != 0 {
		t.Fatal(n, e.r.parked.Load())
	}
	e.empty()
}

func TestRouteLaterAtOnce(t *testing.T) {
	e := newEnv(t, nil)
	e.r.Route = func(h *Headers) (*Upstream, error) {
		if !h.Resumed {
			f := h.Later()
			f()
			f()
			return nil, ErrLater
		}
		return e.up, nil
	}
	if _, err := unary(do(), e.cc, []byte("x")); err != nil {
		t.Fatal(err)
	}
	e.r.Route = func(h *Headers) (*Upstream, error) { h.Later()(); return nil, ErrLater } // for ever
	if _, err := unary(do(), e.cc, nil); status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
	e.r.Route = func(h *Headers) (*Upstream, error) { return nil, ErrLater } // and nobody will resume
	if _, err := unary(do(), e.cc, nil); status.Code(err) != codes.Internal {
		t.Fatal(err)
	}
	e.r.Route = func(h *Headers) (*Upstream, error) { h.Later()(); return e.up, nil } // not needed after all
	if _, err := unary(do(), e.cc, nil); err != nil {
		t.Fatal(err)
	}
	if e.r.parked.Load() != 0 {
		t.Fatal(e.r.parked.Load())
	}
}

func TestRouteLaterNever(t *testing.T) {
	var p parked
	e := laterEnv(t, &p, func(r *Relay) { r.MaxParked = 3 })
	c := rawClient(t, e.addr)
	c.request(1, true, "grpc-timeout", "60m")
	c.request(3, false)
	c.request(5, true)
	eventually(t, "they wait", func() bool { return p.len() == 3 })
	c.request(7, true) // one too many
	if s, r := c.answer(7); s != "8" || r != ReasonOverloaded {
		t.Fatal(s, r)
	}
	if s, r := c.answer(1); s != "4" || r != ReasonTimeout {
		t.Fatal(s, r)
	}
	c.write(appendU32(nil, fReset, 3, codeCancel))
	e.outcome(func(o Outcome) bool { return o.ByClient && o.Reset == codeCancel })
	eventually(t, "places are free", func() bool { return e.r.parked.Load() == 1 })
	p.all()
	if p.asked.Load() > 1 {
		t.Fatal("those that ended were asked about")
	}
	c.nc.Close()
	eventually(t, "all is free", func() bool { return e.r.parked.Load() == 0 })
	e.empty()
}

func TestLocalAnswers(t *testing.T) {
	e := newEnv(t, nil)
	e.r.Route = func(h *Headers) (*Upstream, error) {
		return nil, &Error{Code: int(codes.ResourceExhausted), Message: "later", Reason: "OVERLOADED", Metadata: map[string]string{"limit": "calls"}, RetryDelay: time.Second, Flag: FlagLimited}
	}
	var tr metadata.MD
	_, err := unary(do(), e.cc, nil, grpc.Trailer(&tr))
	s := status.Convert(err)
	if s.Code() != codes.ResourceExhausted || len(s.Details()) != 2 || tr.Get(originHeader)[0] != "sidecar" {
		t.Fatal(err, s.Details(), tr)
	}
	info, retry := s.Details()[0].(*errdetails.ErrorInfo), s.Details()[1].(*errdetails.RetryInfo)
	if info.Reason != "OVERLOADED" || info.Domain != "outrigger" || info.Metadata["limit"] != "calls" || retry.RetryDelay.AsDuration() != time.Second {
		t.Fatal(info, retry)
	}
	e.outcome(func(o Outcome) bool { return o.Flag == FlagLimited && o.Local && o.Err.Reason == "OVERLOADED" })
	e.r.Route = func(h *Headers) (*Upstream, error) { return nil, errors.New("who?") }
	_, err = unary(do(), e.cc, nil)
	if status.Code(err) != codes.Unavailable || reason(err) != ReasonNoRoute {
		t.Fatal(err)
	}
	e.outcome(func(o Outcome) bool { return o.Flag == FlagNoRoute && o.Upstream == nil })
}

// reason is that of the ErrorInfo of err.
func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			return i.Reason
		}
	}
	return ""
}

type attempt struct {
	up   *Upstream
	flag string
	err  error
}

// attempts has e's relay note how each attempt ended.
func (e *env) attempts() func() []attempt {
	var mu sync.Mutex
	var all []attempt
	e.r.Attempted = func(tag any, up *Upstream, flag string, err error) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, attempt{up, flag, err})
	}
	return func() []attempt {
		mu.Lock()
		defer mu.Unlock()
		return append([]attempt(nil), all...)
	}
}

func TestAttemptsAreReported(t *testing.T) {
	e := newEnv(t, nil)
	all := e.attempts()
	dead := e.r.NewUpstream("dead", 1, func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") })
	e.r.Route = func(h *Headers) (*Upstream, error) {
		if h.Attempt == 0 {
			return dead, nil
		}
		if h.Last != dead || h.Attempt != 1 {
			return nil, errors.New("wrong attempt")
		}
		return e.up, nil
	}
	if _, err := unary(do(), e.cc, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both", func() bool { return len(all()) == 2 })
	if a := all(); a[0].up != dead || a[0].flag != FlagConnectFailed || a[0].err == nil || a[1].up != e.up || a[1].flag != "" || a[1].err != nil {
		t.Fatal(a)
	}
	e.r.Route = func(h *Headers) (*Upstream, error) { return dead, nil }
	if _, err := unary(do(), e.cc, nil); reason(err) != ReasonConnectFailed || status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
	eventually(t, "three more", func() bool { return len(all()) == 5 })
	e.outcome(func(o Outcome) bool { return o.Flag == FlagConnectFailed && o.Attempts == 3 && o.Upstream == dead })
}

func TestFlagsOfFailures(t *testing.T) {
	e := newEnv(t, nil)
	all := e.attempts()
	go func() {
		eventually(t, "runs", func() bool { return e.v.running.Load() == 1 })
		e.srv.Stop()
	}()
	if _, err := unary(do("do", "hang"), e.cc, nil); status.Code(err) != codes.Canceled { // RST_STREAM, then the connection
		if reason(err) != ReasonConnectionLost {
			t.Fatal(err)
		}
	}
	eventually(t, "reported", func() bool { return len(all()) == 1 })
	if a := all()[0]; a.flag != FlagClosed && a.flag != FlagReset || a.up != e.up {
		t.Fatal(a)
	}
	ln := listen(t) // takes connections and says nothing
	defer ln.Close()
	mute := e.r.NewUpstream("mute", 1, tcp(ln.Addr().String()))
	e.r.Route = func(*Headers) (*Upstream, error) { return mute, nil }
	c := rawClient(t, e.addr)
	c.request(1, true, "grpc-timeout", "50m")
	if s, r := c.answer(1); s != "4" || r != ReasonTimeout {
		t.Fatal(s, r)
	}
	e.outcome(func(o Outcome) bool { return o.Flag == FlagTimeout && o.Upstream == mute && o.Local })
}

func TestTimeoutsOfRoute(t *testing.T) {
	e := newEnv(t, nil)
	var told atomic.Value
	told.Store("")
	e.v.seen = func(md metadata.MD, ctx context.Context) {
		if d, ok := ctx.Deadline(); ok {
			told.Store(time.Until(d).String())
		} else {
			told.Store("none")
		}
	}
	left := func() time.Duration {
		d, err := time.ParseDuration(told.Load().(string))
		if err != nil {
			t.Fatal(told.Load())
		}
		return d
	}
	for name, c := range map[string]struct {
		client, timeout, try time.Duration
		most, least          time.Duration
	}{
		"kept":    {client: 10 * time.Second, timeout: -1, most: 10 * time.Second, least: 8 * time.Second},
		"shorter": {client: 10 * time.Second, timeout: 5 * time.Second, most: 5 * time.Second, least: 3 * time.Second},
		"given":   {timeout: 5 * time.Second, most: 5 * time.Second, least: 3 * time.Second},
		"attempt": {client: 10 * time.Second, timeout: -1, try: 2 * time.Second, most: 2 * time.Second, least: time.Second},
		"taken":   {client: 10 * time.Second, timeout: 0},
	} {
		e.r.Route = func(h *Headers) (*Upstream, error) {
			if c.timeout >= 0 {
				h.Timeout = c.timeout
			}
			h.PerTry = c.try
			return e.up, nil
		}
		ctx, cancel := do(), context.CancelFunc(func() {})
		if c.client > 0 {
			ctx, cancel = context.WithTimeout(ctx, c.client)
		}
		if _, err := unary(ctx, e.cc, nil); err != nil {
			t.Fatal(name, err)
		}
		cancel()
		if c.most == 0 {
			if told.Load() != "none" {
				t.Fatal(name, told.Load())
			}
		} else if l := left(); l > c.most || l < c.least {
			t.Fatal(name, l)
		}
	}
}

// An attempt whose request was not sent is given up for another; one that runs is ended.
func TestPerTry(t *testing.T) {
	e := newEnv(t, nil)
	all := e.attempts()
	var served atomic.Int64
	e.v.seen = func(metadata.MD, context.Context) { served.Add(1) }
	there := make(chan struct{})
	mute := e.r.NewUpstream("mute", 1, func(ctx context.Context) (net.Conn, error) { <-there; return tcp(e.saddr)(ctx) })
	e.r.Route = func(h *Headers) (*Upstream, error) {
		if h.PerTry = 60 * time.Millisecond; h.Attempt == 0 {
			return mute, nil
		}
		h.PerTry = 5 * time.Second
		return e.up, nil
	}
	ctx, cancel := context.WithCancel(do("do", "hang"))
	ended := make(chan error, 1)
	go func() { _, err := unary(ctx, e.cc, nil); ended <- err }()
	eventually(t, "it runs", func() bool { return e.v.running.Load() == 1 })
	close(there) // too late: the request is not sent a second time
	eventually(t, "connected", func() bool { return e.r.Stats().Dialed == 2 && e.r.Stats().Waiting == 0 })
	cancel()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Fatal(err)
	}
	e.empty()
	if n := served.Load(); n != 1 || e.v.cancelled.Load() != 1 {
		t.Fatal("served times: ", n)
	}
	eventually(t, "reported", func() bool { return len(all()) == 2 })
	if a := all(); a[0].up != mute || a[0].flag != FlagTimeout || a[1].flag != "" {
		t.Fatal(a)
	}
	e.r.Route = func(h *Headers) (*Upstream, error) { h.PerTry = 60 * time.Millisecond; return e.up, nil }
	if _, err := unary(do("do", "hang"), e.cc, nil); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	eventually(t, "the server hears of it", func() bool { return e.v.cancelled.Load() == 2 })
	e.empty()
}

// A server that was told its deadline may end the stream by RST_STREAM; a client that knows of none hears why.
func TestResetAtDeadline(t *testing.T) {
	ln := listen(t)
	defer ln.Close()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		nc.Write(appendSettings(nil))
		io.ReadFull(nc, make([]byte, len(preface)))
		r := &raw{nc: nc, br: newReader(nc)}
		for {
			typ, id, _, err := r.read()
			if err != nil {
				return
			}
			if typ == fHeaders {
				time.AfterFunc(32*time.Millisecond, func() { nc.Write(appendU32(nil, fReset, id, codeCancel)) })
			}
		}
	}()
	e := newEnv(t, nil)
	u := e.r.NewUpstream("u", 1, tcp(ln.Addr().String()))
	e.r.Route = func(h *Headers) (*Upstream, error) { h.PerTry = 30 * time.Millisecond; return u, nil }
	if _, err := unary(do(), e.cc, nil); status.Code(err) != codes.DeadlineExceeded || reason(err) != ReasonTimeout {
		t.Fatal(err)
	}
}
