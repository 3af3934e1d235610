package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	registryv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/registry/v1"
	schedulev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"
	secretv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/secret/v1"
	sequencev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/sequence/v1"
	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
	transactionv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/transaction/v1"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// world is what outlives a sidecar: the back ends, and what the tests ask about calls.
type world struct {
	mu       sync.Mutex
	versions int
	cache    map[string]*cachev1.GetResponse
	config   map[string]*configv1.Item
	services map[string]*registryv1.PublishRequest
	locks    *locks
	events   *events
	jobs     *schedule
	changed  chan struct{} // closed at each change
	reloaded chan struct{} // closed at each reload
	calls    []call
	watches  int           // of config that are open
	app      string        // what health answers tell of the sidecar
	token    string        // that is asked for, if any
	fail     error         // of Cache.Get of the key "fail", and of the next Config.Watch
	hang     chan struct{} // that Cache.Get of the key "hang" waits for
}

// call is one that arrived.
type call struct {
	method string
	md     metadata.MD
}

func newWorld() *world {
	return &world{cache: map[string]*cachev1.GetResponse{}, config: map[string]*configv1.Item{},
		services: map[string]*registryv1.PublishRequest{}, locks: newLocks(), events: newEvents(), jobs: newSchedule(), changed: make(chan struct{}), reloaded: make(chan struct{})}
}

// fake is a sidecar of that world.
type fake struct {
	*world
	server       *grpc.Server
	transactions *transactions
	target       string // HOST:PORT, or a path
	done         chan struct{}
}

// listen starts a fake sidecar at a path (that begins with /) or HOST:PORT.
func (w *world) listen(address string) (*fake, error) {
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
		if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	f := &fake{world: w, transactions: &transactions{}, target: l.Addr().String(), done: make(chan struct{}), server: grpc.NewServer(
		grpc.UnaryInterceptor(w.unary), grpc.StreamInterceptor(w.stream), grpc.UnknownServiceHandler(proxied), grpc.WaitForHandlers(true))}
	healthpb.RegisterHealthServer(f.server, health{w: w})
	cachev1.RegisterCacheServer(f.server, cache{w: w})
	statev1.RegisterStateServer(f.server, newState())
	lockv1.RegisterLockServer(f.server, w.locks)
	pubsubv1.RegisterPubSubServer(f.server, w.events)
	schedulev1.RegisterScheduleServer(f.server, w.jobs)
	transactionv1.RegisterTransactionServer(f.server, f.transactions)
	sequencev1.RegisterSequenceServer(f.server, &sequences{})
	configv1.RegisterConfigServer(f.server, config{w: w})
	secretv1.RegisterSecretServer(f.server, secret{})
	registryv1.RegisterRegistryServer(f.server, registry{w: w})
	invocationv1.RegisterInvocationServer(f.server, invocation{})
	go func() { defer close(f.done); _ = f.server.Serve(l) }() // it ends with Stop
	return f, nil
}

func (f *fake) stop()  { f.server.Stop(); <-f.done }
func (f *fake) drain() { f.server.GracefulStop(); <-f.done }

// start is listen for tests.
func start(t *testing.T, w *world, address string) *fake {
	t.Helper()
	f, err := w.listen(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.stop)
	return f
}

// folder is a data folder with a path short enough for sockets.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "or")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func dial(t *testing.T, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.Dial(within(t), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// within is a context with a deadline that only a hang exceeds.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (w *world) unary(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := w.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, in)
}

func (w *world) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := w.admit(s.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, s)
}

func (w *world) admit(ctx context.Context, method string) error {
	md, _ := metadata.FromIncomingContext(ctx)
	w.mu.Lock()
	w.calls = append(w.calls, call{method, md})
	token := w.token
	w.mu.Unlock()
	if token != "" && (len(md["outrigger-token"]) != 1 || md["outrigger-token"][0] != token) {
		return problem(codes.Unauthenticated, "TOKEN_REQUIRED", "the API token is missing")
	}
	return nil
}

// last is the newest call of that method.
func (w *world) last(t *testing.T, method string) metadata.MD {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.calls) - 1; i >= 0; i-- {
		if w.calls[i].method == method {
			return w.calls[i].md
		}
	}
	t.Fatalf("no call of %s", method)
	return nil
}

// edit changes the world and tells watchers.
func (w *world) edit(change func(version string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions++
	change("v" + strconv.Itoa(w.versions))
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) reload() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.reloaded)
	w.reloaded = make(chan struct{})
}

func problem(code codes.Code, reason, message string) error {
	s, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "outrigger"})
	if err != nil {
		return err
	}
	return s.Err()
}

func overloaded(message string, after time.Duration) error {
	s, err := status.New(codes.ResourceExhausted, message).WithDetails(
		&errdetails.ErrorInfo{Reason: "OVERLOADED", Domain: "outrigger"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	if err != nil {
		return err
	}
	return s.Err()
}

type health struct {
	healthpb.UnimplementedHealthServer
	w *world
}

func (h health) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.w.app != "" {
		if err := grpc.SetHeader(ctx, metadata.Pairs("outrigger-app", h.w.app)); err != nil {
			return nil, err
		}
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}, nil
}

// proxied is the application "stock" behind its sidecar: it answers each message with how many of it there are.
func proxied(_ any, s grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(s.Context())
	if service := md.Get("outrigger-service"); len(service) != 1 || service[0] != "stock" {
		s.SetTrailer(metadata.Pairs("outrigger-origin", "sidecar"))
		if len(service) == 1 && service[0] == "nobody" {
			return problem(codes.Unavailable, "NO_INSTANCE", "the service has no instance")
		}
		return problem(codes.NotFound, "SERVICE_NOT_FOUND", "nobody has published the service")
	}
	for {
		var in wrapperspb.StringValue
		if err := s.RecvMsg(&in); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if in.GetValue() == "anvil" {
			s.SetTrailer(metadata.Pairs("outrigger-origin", "app"))
			return status.Error(codes.Unavailable, "no more anvils")
		}
		if in.GetValue() == "lost" { // the application passes on what its own client failed with
			s.SetTrailer(metadata.Pairs("outrigger-origin", "app"))
			return problem(codes.Unavailable, client.ReasonSidecarUnavailable, "the sidecar is away")
		}
		if err := s.SendMsg(wrapperspb.String("7 of " + in.GetValue())); err != nil {
			return err
		}
	}
}
