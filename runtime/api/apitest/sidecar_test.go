package apitest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	nethttp "net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	_ "github.com/outrigger-mesh/outrigger/components/cache/memory"
	"github.com/outrigger-mesh/outrigger/components/config"
	_ "github.com/outrigger-mesh/outrigger/components/config/file"
	"github.com/outrigger-mesh/outrigger/components/lock"
	_ "github.com/outrigger-mesh/outrigger/components/lock/local"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	_ "github.com/outrigger-mesh/outrigger/components/pubsub/local"
	"github.com/outrigger-mesh/outrigger/components/schedule"
	_ "github.com/outrigger-mesh/outrigger/components/schedule/local"
	"github.com/outrigger-mesh/outrigger/components/secret"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	_ "github.com/outrigger-mesh/outrigger/components/sequence/local"
	"github.com/outrigger-mesh/outrigger/components/state"
	_ "github.com/outrigger-mesh/outrigger/components/state/local"
	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/api/native"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func TestMain(m *testing.M) {
	if spec, ok := os.LookupEnv(callEnv); ok {
		fmt.Print(call(spec))
		return
	}
	goleak.VerifyTestMain(m)
}

var app = components.Caller{Namespace: "shop", App: "orders"}

// sidecar is the API of one, with the drivers that a sidecar without configuration has.
type sidecar struct {
	*server.Server
	socket, grpc, http string
	caches             named[*cache.Cache]
	store              *counted // below the cache called counted
	settings           *components.Component[config.Driver]
	naming             *naming
}

// named finds components as the host does.
type named[F any] map[string]F

func (n named[F]) Get(name string) (F, error) {
	if name == "" {
		name = "default"
	}
	f, ok := n[name]
	if !ok {
		var have []string
		for name := range n {
			have = append(have, name)
		}
		return f, components.WithReason(fmt.Errorf("cache %q: %w (there are: %v)", name, components.ErrNotFound, have), components.ReasonComponentNotFound, "component", name)
	}
	return f, nil
}

type option func(*server.Options)

func start(t testing.TB, options ...option) *sidecar {
	t.Helper()
	return startWith(t, func(*server.Server) {}, options...)
}

// startWith is start; before is called before anything is served.
func startWith(t testing.TB, before func(*server.Server), options ...option) *sidecar {
	t.Helper()
	s := &sidecar{naming: &naming{}, store: &counted{Driver: open(t, cache.Drivers, "memory")}}
	plain := component[cache.Driver]("cache", "default", "memory", open(t, cache.Drivers, "memory"))
	slow := component[cache.Driver]("cache", "counted", "counted", s.store)
	s.caches = named[*cache.Cache]{"default": cache.New(plain), "counted": cache.New(slow)}
	s.settings = component[config.Driver]("config", "default", "file", open(t, config.Drivers, "file"))
	secrets := component[secret.Driver]("secret", "default", "fixed", fixed{"password": "hunter2"})
	locks := component[lock.Driver]("lock", "default", "local", open(t, lock.Drivers, "local"))
	sequences := component[sequence.Driver]("sequence", "default", "local", open(t, sequence.Drivers, "local"))
	states := component[state.Driver]("state", "default", "local", open(t, state.Drivers, "local"))
	events := component[pubsub.Driver]("pubsub", "default", "local", open(t, pubsub.Drivers, "local"))
	schedules := component[schedule.Driver]("schedule", "default", "local", open(t, schedule.Drivers, "local"))
	o := server.Options{
		Caller: app, Access: &access.Policy{Mode: access.SameUser, Token: access.NewToken("let me in")}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Services: native.Deps{Caches: s.caches, Configs: named[*config.Config]{"default": config.New(s.settings)},
			Secrets: named[*secret.Secret]{"default": secret.New(secrets)}, States: named[*state.State]{"default": state.New(states)},
			Locks: named[*lock.Lock]{"default": lock.New(locks)}, Sequences: named[*sequence.Sequence]{"default": sequence.New(sequences)},
			PubSubs:   named[*pubsub.PubSub]{"default": pubsub.New(events, pubsub.Options{})},
			Schedules: named[*schedule.Schedule]{"default": schedule.New(schedules, nil)},
			Naming:    s.naming, Invoker: echo{}},
	}
	for _, set := range options {
		set(&o)
	}
	var err error
	if s.Server, err = server.New(o); err != nil {
		t.Fatal(err)
	}
	before(s.Server)
	s.SetReady(true)
	s.socket = filepath.Join(t.TempDir(), "app.sock")
	var tasks sync.WaitGroup
	t.Cleanup(tasks.Wait)
	serve := func(network, address string, serve func(net.Listener) error) string {
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		tasks.Go(func() {
			if err := serve(ln); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, nethttp.ErrServerClosed) {
				t.Error(err)
			}
		})
		return ln.Addr().String()
	}
	serve("unix", s.socket, s.Serve)
	s.grpc = serve("tcp", "127.0.0.1:0", s.Serve)
	s.http = serve("tcp", "127.0.0.1:0", s.ServeHTTP)
	t.Cleanup(func() { s.Close() })
	return s
}

func component[D any](capability, name, driver string, d D) *components.Component[D] {
	c := components.NewComponent[D](components.ID{Capability: capability, Name: name, Driver: driver}, components.Limits{}, nil)
	c.Set(d)
	return c
}

// open opens a driver with its defaults.
func open[D any](t testing.TB, drivers *components.Registry[D], name string) D {
	t.Helper()
	options, err := drivers.Decode(name, func(any) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	d, err := drivers.Open(context.Background(), name, components.Env{Logger: slog.New(slog.DiscardHandler), DataDir: t.TempDir()}, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c, ok := any(d).(components.Closer); ok {
			c.Close(context.Background())
		}
	})
	return d
}

// fixed are secrets.
type fixed map[string]string

func (f fixed) Get(_ context.Context, key string) (secret.Value, error) {
	v, ok := f[key]
	if !ok {
		return secret.Value{}, components.ErrNotFound
	}
	return secret.Value{Data: secret.Data(v), Version: "1"}, nil
}

func (f fixed) List(context.Context, string, string, int) (keys []string, err error) {
	for key := range f {
		keys = append(keys, key)
	}
	return keys, nil
}

// front is one way in.
type front struct {
	name    string
	json    bool
	options []option
	dial    func(t testing.TB, s *sidecar) grpc.ClientConnInterface
}

func fronts() []front {
	return []front{
		{name: "unix", dial: func(t testing.TB, s *sidecar) grpc.ClientConnInterface { return dial(t, "unix:"+s.socket) }},
		{name: "tcp", dial: func(t testing.TB, s *sidecar) grpc.ClientConnInterface { return dial(t, "passthrough:///"+s.grpc) }},
		{name: "grpc-go", options: []option{func(o *server.Options) { o.Relayed = true }},
			dial: func(t testing.TB, s *sidecar) grpc.ClientConnInterface { return dial(t, "passthrough:///"+s.grpc) }},
		{name: "http", json: true, dial: func(t testing.TB, s *sidecar) grpc.ClientConnInterface { return newJSON(t, s.http) }},
	}
}

func dial(t testing.TB, target string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// each runs a test through every front-end, with a sidecar for each.
func each(t *testing.T, test func(t *testing.T, f front, s *sidecar, cc grpc.ClientConnInterface), options ...option) {
	for _, f := range fronts() {
		t.Run(f.name, func(t *testing.T) {
			s := start(t, append(options, f.options...)...)
			test(t, f, s, f.dial(t, s))
		})
	}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}
