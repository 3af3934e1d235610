package proxy_test

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// provider counts the calls that arrive, and answers each as it is told.
type provider struct {
	healthpb.UnimplementedHealthServer
	address string
	arrived atomic.Int64
	answer  func(ctx context.Context, server *grpc.Server) error
}

func startProvider(t *testing.T, answer func(context.Context, *grpc.Server) error) *provider {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{address: ln.Addr().String(), answer: answer}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, &serving{p, server})
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return p
}

type serving struct {
	*provider
	server *grpc.Server
}

func (s *serving) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	s.arrived.Add(1)
	return &healthpb.HealthCheckResponse{}, s.answer(ctx, s.server)
}

func fine(context.Context, *grpc.Server) error { return nil }

func away(context.Context, *grpc.Server) error { return status.Error(codes.Unavailable, "not now") }

func hang(ctx context.Context, _ *grpc.Server) error { <-ctx.Done(); return ctx.Err() }

func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// static is a registry that never changes.
type static []mesh.Instance

func (s static) Watch(ctx context.Context, _ mesh.Service, report func([]mesh.Instance) error) error {
	if err := report(s); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// ruled is a client of an outbound side with an engine that has policies, and providers.
func ruled(t *testing.T, rule func(*mesh.Policies), providers ...*provider) (healthpb.HealthClient, *monitor) {
	t.Helper()
	var all static
	for _, p := range providers {
		all = append(all, mesh.Instance{Address: p.address, Weight: 100})
	}
	d := mesh.NewDirectory(all, slog.New(slog.DiscardHandler))
	t.Cleanup(d.Close)
	p := mesh.Policies{Defaults: mesh.DefaultRule()}
	rule(&p)
	e := &mesh.Router{Directory: d, Policies: &mesh.Table{}, MaxHops: 8}
	if err := e.Policies.Apply(p, "shop"); err != nil {
		t.Fatal(err)
	}
	m := &monitor{}
	r := &grpcproxy.Relay{}
	dialing(e, m).Bind(r, nil)
	_, client := serveRelay(t, r)
	return client, m
}

// A provider that says UNAVAILABLE gets at most a fifth more than its callers sent, and of calls that are not safe to repeat nothing more.
func TestRetryBudgetAtTheProvider(t *testing.T) {
	t.Log("feature: grpc, repetitions stay within the budget, counted at the provider")
	t.Log("feature: grpc, what is not safe to repeat arrives at most once")
	const calls = 500
	for _, c := range []struct {
		name string
		md   []string
		rule func(*mesh.Policies)
		more bool
	}{
		{"not safe", nil, func(*mesh.Policies) {}, false},
		{"a key", []string{"idempotency-key", "k"}, func(*mesh.Policies) {}, true},
		{"the caller's word", []string{"outrigger-idempotent", "true"}, func(*mesh.Policies) {}, true},
		{"the route's word", nil, func(p *mesh.Policies) { p.Routes = []mesh.Route{{Service: "stock", Idempotent: true}} }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := startProvider(t, away)
			client, m := ruled(t, c.rule, p)
			for range calls {
				_, err := client.Check(within(t, 10*time.Second, append([]string{"outrigger-service", "stock"}, c.md...)...), &healthpb.HealthCheckRequest{Service: "x"})
				if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "not now" {
					t.Fatal(err)
				}
			}
			if n := p.arrived.Load(); !c.more && n != calls || c.more && (n > calls*12/10 || n < calls*11/10) {
				t.Errorf("%d calls arrived %d times", calls, n)
			}
			attempts := 0
			for _, r := range m.all(t, calls) {
				attempts += r.Attempts
			}
			if int64(attempts) != p.arrived.Load() {
				t.Errorf("the monitor was told of %d attempts, %d arrived", attempts, p.arrived.Load())
			}
		})
	}
}

// A request that is repeated arrives whole, whatever it had become of the first time.
func TestRepeatedElsewhere(t *testing.T) {
	broken := func(ctx context.Context, s *grpc.Server) error { go s.Stop(); <-ctx.Done(); return ctx.Err() }
	for _, c := range []struct {
		name   string
		first  func(context.Context, *grpc.Server) error
		perTry time.Duration
	}{{"says UNAVAILABLE", away, 0}, {"hangs", hang, 100 * time.Millisecond}, {"breaks off", broken, 0}} {
		for _, safe := range []bool{true, false} {
			bad, good := startProvider(t, c.first), startProvider(t, fine)
			client, _ := ruled(t, func(p *mesh.Policies) {
				p.Routes = []mesh.Route{{Service: "stock", Idempotent: safe, Rule: mesh.Rule{Retry: mesh.Retry{PerTry: c.perTry}}}}
			}, bad, good)
			failed := 0
			for bad.arrived.Load() == 0 { // until one meets it
				if _, err := client.Check(within(t, 10*time.Second, "outrigger-service", "stock"), &healthpb.HealthCheckRequest{Service: "x"}); err != nil {
					failed++
				}
			}
			if safe && failed != 0 || !safe && failed != 1 || bad.arrived.Load() != 1 {
				t.Errorf("%s, safe to repeat %v: %d calls failed, %d arrived there", c.name, safe, failed, bad.arrived.Load())
			}
		}
	}
}

func TestBreakerFlag(t *testing.T) {
	p := startProvider(t, hang)
	client, m := ruled(t, func(p *mesh.Policies) { p.Defaults.Breaker.Service = 1 }, p)
	ctx, cancel := context.WithCancel(within(t, 20*time.Second, "outrigger-service", "stock"))
	ended := make(chan error, 1)
	go func() {
		_, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
		ended <- err
	}()
	eventually(t, func() error {
		if p.arrived.Load() != 1 {
			return context.DeadlineExceeded
		}
		return nil
	})
	_, err := client.Check(within(t, 10*time.Second, "outrigger-service", "stock"), &healthpb.HealthCheckRequest{})
	cancel()
	<-ended
	if got := reason(err); status.Code(err) != codes.ResourceExhausted || got != string(mesh.ReasonBreaker) {
		t.Errorf("got %v, reason %s", err, got)
	}
	flags := map[string]int{}
	for _, r := range m.all(t, 2) {
		flags[r.Flag]++
	}
	if flags[mesh.FlagBreaker] != 1 || p.arrived.Load() != 1 {
		t.Errorf("flags %v, %d arrived", flags, p.arrived.Load())
	}
}

// A route's timeout holds for who sets no deadline, and for who sets a longer one.
func TestTimeoutOfARoute(t *testing.T) {
	t.Log("feature: grpc, a route sets the timeout")
	client, m := ruled(t, func(p *mesh.Policies) {
		p.Routes = []mesh.Route{{Service: "stock", Rule: mesh.Rule{Timeout: 100 * time.Millisecond}}}
	}, startProvider(t, hang))
	_, err := client.Check(within(t, 20*time.Second, "outrigger-service", "stock"), &healthpb.HealthCheckRequest{})
	if status.Code(err) != codes.DeadlineExceeded || reason(err) != grpcproxy.ReasonTimeout {
		t.Errorf("got %v", err)
	}
	if r := m.all(t, 1)[0]; r.Duration > 5*time.Second || r.Flag != grpcproxy.FlagTimeout {
		t.Errorf("it took %v, flag %q", r.Duration, r.Flag)
	}
}
