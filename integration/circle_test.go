package integration

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// plain is an application without our SDK: what it is asked it asks the next service, and hands on of the metadata only what is
// named in handOn.
type plain struct {
	echopb.UnimplementedEchoServer
	port   int
	next   string
	handOn []string
	conn   *grpc.ClientConn // to its sidecar
	calls  atomic.Int64
}

func startPlain(t *testing.T, next string, handOn ...string) *plain {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &plain{port: ln.Addr().(*net.TCPAddr).Port, next: next, handOn: handOn}
	server := grpc.NewServer()
	echopb.RegisterEchoServer(server, p)
	go server.Serve(ln)
	t.Cleanup(server.Stop)
	return p
}

func (p *plain) use(t *testing.T, s *harness.Sidecar) {
	conn, err := grpc.NewClient(s.Outbound, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p.conn = conn
}

func (p *plain) Unary(ctx context.Context, in *echopb.Message) (*echopb.Message, error) {
	p.calls.Add(1)
	md := metadata.Pairs("outrigger-service", p.next)
	came, _ := metadata.FromIncomingContext(ctx)
	for _, name := range p.handOn {
		md.Set(name, came.Get(name)...)
	}
	return echopb.NewEchoClient(p.conn).Unary(metadata.NewOutgoingContext(ctx, md), in)
}

// circle asks a service that asks itself, or others that do, and wants the hop limit's answer.
func circle(t *testing.T, c *client.Client, service string, md ...string) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(within(t, time.Minute), md...)
	_, err := echopb.NewEchoClient(c.Conn(service)).Unary(ctx, &echopb.Message{})
	if status.Code(err) != codes.FailedPrecondition || client.Reason(err) != "TOO_MANY_HOPS" {
		t.Fatalf("got %v, reason %q", err, client.Reason(err))
	}
}

func TestPlainServiceThatCallsItselfForEver(t *testing.T) {
	app := startPlain(t, "loop")
	s := harness.Start(t, harness.Options{App: "loop", AppPort: app.port})
	app.use(t, s)
	p := &pair{client: s.Client()}
	p.published(t, "loop", 1)
	for range 2 { // the first has left nothing behind
		app.calls.Store(0)
		circle(t, p.client, "loop")
		if n := app.calls.Load(); n > 64 {
			t.Fatalf("the application was called %d times", n)
		}
	}
}

// TestHTTPServiceThatInvokesItselfForEver: it knows nothing of gRPC, and hands on nothing. The innermost call is told the reason;
// what its callers are told is up to the application, which answers with the status that it was answered with.
func TestHTTPServiceThatInvokesItselfForEver(t *testing.T) {
	var calls, refused atomic.Int64
	var sidecar atomic.Pointer[harness.Sidecar]
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		code, text := invokeLoop(r.Context(), sidecar.Load())
		if strings.Contains(text, "TOO_MANY_HOPS") {
			refused.Add(1)
		}
		w.WriteHeader(code)
	}))
	defer app.Close()
	s := harness.Start(t, harness.Options{App: "loop", AppPort: app.Listener.Addr().(*net.TCPAddr).Port, Protocol: "http"})
	sidecar.Store(s)
	(&pair{client: s.Client()}).published(t, "loop", 1)
	code, text := invokeLoop(within(t, time.Minute), s)
	if code != http.StatusBadRequest || refused.Load() != 1 || calls.Load() > 64 {
		t.Fatalf("%d calls, %d of them refused for their hops; the first got %d: %s", calls.Load(), refused.Load(), code, text)
	}
}

func invokeLoop(ctx context.Context, s *harness.Sidecar) (code int, text string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.HTTP+"/outrigger.invocation.v1.Invocation/Invoke",
		strings.NewReader(`{"service": "loop", "method": "again"}`))
	if err != nil {
		return http.StatusInternalServerError, err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return http.StatusInternalServerError, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return http.StatusInternalServerError, err.Error()
	}
	return res.StatusCode, string(body)
}

// TestCircleOfTracedServices: these hand on their trace and nothing else, as instrumentation for OpenTelemetry does.
func TestCircleOfTracedServices(t *testing.T) {
	dir := t.TempDir()
	ping, pong := startPlain(t, "pong", "traceparent", "tracestate"), startPlain(t, "ping", "traceparent", "tracestate")
	a := harness.Start(t, harness.Options{App: "ping", AppPort: ping.port, DataDir: dir})
	b := harness.Start(t, harness.Options{App: "pong", AppPort: pong.port, DataDir: dir})
	ping.use(t, a)
	pong.use(t, b)
	p := &pair{client: harness.Start(t, harness.Options{App: "caller", DataDir: dir}).Client()}
	p.published(t, "ping", 1)
	p.published(t, "pong", 1)
	circle(t, p.client, "ping", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate", "other=1")
	if n := ping.calls.Load() + pong.calls.Load(); n > 20 {
		t.Fatalf("the applications were called %d times", n)
	}
}

func TestManyCallsToAnotherServiceAreNoCircle(t *testing.T) {
	p := newPair(t)
	var calls sync.WaitGroup
	for range 200 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := p.echo.Unary(ctx, &echopb.Message{WaitMs: 1000}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}
