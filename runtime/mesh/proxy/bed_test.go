package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

var caller = components.Caller{Namespace: "shop", App: "orders"}

// app is a gRPC server that does what the request's service name says, and keeps the metadata it saw.
type app struct {
	healthpb.UnimplementedHealthServer
	address string
	seen    chan metadata.MD
	server  *grpc.Server
}

func startApp(t *testing.T) *app {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{address: ln.Addr().String(), seen: make(chan metadata.MD, 100), server: grpc.NewServer()}
	healthpb.RegisterHealthServer(a.server, a)
	own := healthpb.Health_ServiceDesc // once more, by a name that others may call
	own.ServiceName = "shop.v1.Stock"
	a.server.RegisterService(&own, a)
	done := make(chan error, 1)
	go func() { done <- a.server.Serve(ln) }()
	t.Cleanup(func() { a.server.Stop(); <-done })
	return a
}

func (a *app) port() int {
	_, p, _ := net.SplitHostPort(a.address)
	port := 0
	fmt.Sscan(p, &port)
	return port
}

func (a *app) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	a.seen <- md
	grpc.SetHeader(ctx, metadata.Pairs("outrigger-origin", "sidecar", "x-header", "h"))
	grpc.SetTrailer(ctx, metadata.Pairs("outrigger-origin", "sidecar", "outrigger-secret", "s", "x-trailer", "t"))
	switch in.GetService() {
	case "fail":
		return nil, status.Error(codes.Aborted, "no")
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	case "stop": // the connection ends in the middle
		go a.server.Stop()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &healthpb.HealthCheckResponse{}, nil
}

// monitor counts what it is told.
type monitor struct {
	mu     sync.Mutex
	begun  int
	ended  []proxy.Record
	double bool
	open   map[*proxy.Record]bool
}

func (m *monitor) Begin(r *proxy.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open == nil {
		m.open = map[*proxy.Record]bool{}
	}
	m.begun++
	m.open[r] = true
	if r.Traceparent == "mine" {
		r.Traceparent = "changed"
	}
}

func (m *monitor) End(r *proxy.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.open[r] {
		m.double = true
	}
	delete(m.open, r)
	m.ended = append(m.ended, *r)
}

// one waits until all that began has ended, and answers it: n requests, each ended once.
func (m *monitor) all(t *testing.T, n int) []proxy.Record {
	t.Helper()
	eventually(t, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.begun != n || len(m.ended) != n || m.double {
			return fmt.Errorf("%d requests began and %d ended, want %d (ended twice: %v)", m.begun, len(m.ended), n, m.double)
		}
		return nil
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ended)
}

func eventually(t *testing.T, ask func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// engine sends the attempts of a request to its addresses in turn, and keeps what is reported of each.
type engine struct {
	mu        sync.Mutex
	addresses []string
	direct    bool // they have no sidecar
	pending   *mesh.Pending
	refuse    error
	timeout   time.Duration
	perTry    time.Duration
	begun     int
	reports   []string // ADDRESS OUTCOME
	requests  []mesh.Request
	failures  []mesh.Failure // what Again was asked about
}

func (e *engine) Route(r *mesh.Request) (mesh.Plan, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pending != nil {
		return nil, e.pending
	}
	e.requests = append(e.requests, *r)
	return &turns{e: e, repeat: r.Repeatable}, e.refuse
}

type turns struct {
	e      *engine
	at     int
	repeat bool
}

func (p *turns) Rule() string           { return "turns" }
func (p *turns) Timeout() time.Duration { return p.e.timeout }
func (p *turns) PerTry() time.Duration  { return p.e.perTry }

func (p *turns) Repeatable() bool { return p.repeat }

func (p *turns) Again(f mesh.Failure) bool {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	p.e.failures = append(p.e.failures, f)
	return (!f.Sent || p.repeat) && p.at < 3
}

func (p *turns) Next() (mesh.Attempt, error) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	p.e.begun++
	p.at++
	return &turn{p.e, mesh.Instance{Address: p.e.addresses[min(p.at, len(p.e.addresses))-1], Direct: p.e.direct}}, nil
}

type turn struct {
	e  *engine
	in mesh.Instance
}

func (a *turn) Instance() *mesh.Instance { return &a.in }

func (a *turn) Report(o mesh.Outcome) {
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	a.e.reports = append(a.e.reports, fmt.Sprint(a.in.Address, " ", []string{"unknown", "answered", "failed", "unreachable"}[o]))
}

// reported waits until each attempt was reported, and holds that none is twice. One may be reported when the next has ended.
func (e *engine) reported(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.begun != len(want) || !slices.Equal(slices.Sorted(slices.Values(e.reports)), want) {
			return fmt.Errorf("%d attempts, reported %q; want %q", e.begun, e.reports, want)
		}
		return nil
	})
}

// serveRelay serves a relay on a port and answers a client of it.
func serveRelay(t *testing.T, r *grpcproxy.Relay) (*grpc.ClientConn, healthpb.HealthClient) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Serve(ln) }()
	conn, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		ln.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Shutdown(end); err != nil {
			t.Error(err)
		}
	})
	return conn, healthpb.NewHealthClient(conn)
}

func within(t *testing.T, d time.Duration, md ...string) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return metadata.NewOutgoingContext(ctx, metadata.Pairs(md...))
}

// deadPort is one that nobody listens on.
func deadPort(t *testing.T) string { return rpctest.DeadPort(t) }
