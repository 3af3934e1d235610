package runtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	conf "github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/schedule"
	"github.com/outrigger-mesh/outrigger/components/secret"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/state"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/host"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/identity"
	forms "github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
	"github.com/outrigger-mesh/outrigger/runtime/policy"
	"github.com/outrigger-mesh/outrigger/runtime/publish"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"
)

// sidecar is all its parts.
type sidecar struct {
	opts    Options
	conf    atomic.Pointer[config.Config]
	dataDir string
	app     components.Caller
	log     *slog.Logger

	telemetry *telemetry.Telemetry
	sockets   *sockets
	host      *host.Host
	fronts    fronts
	directory *mesh.Directory
	spare     *spare
	policies  *mesh.Table
	rules     *policy.Keeper  // of what is in that
	identity  *identity.Store // nil: no TLS
	publisher *publish.Publisher
	inbound   *inbound
	api       *apiServer
	branches  *branches
	http      *counted
	admin     *admin.Server
	reloads   *reloads

	before  *predecessor              // that this one replaces
	after   atomic.Pointer[successor] // that has replaced this one
	leaving chan error                // once the API's clients were sent to it: how that ended

	child     atomic.Pointer[child]
	childDone chan error
	starting  sync.Mutex // held while the child is started

	assembled chan struct{}             // closed when the parts are there that all goroutines use
	broken    chan error                // why one of the listeners accepts no more
	asked     atomic.Pointer[os.Signal] // the signal that ended it
	end       context.CancelFunc        // begins the orderly end
	cut       context.Context           // ends when that is cut short
	cutShort  context.CancelFunc
	wasReady  atomic.Bool
	ending    atomic.Bool     // it drains
	draining  context.Context // ends when that begins
	drain     context.CancelFunc
	turned    context.Context // ends when others are turned away
	turn      context.CancelFunc
	drains    func() config.Drain // what it may take, as configured when the end began
	closing   atomic.Bool         // and the application has had its time
	drained   func() time.Time    // when it will be over

	tasks sync.WaitGroup // of bg
	bg    context.Context
	endBG context.CancelFunc
}

// fronts are the components by capability.
type fronts struct {
	caches       *host.Fronts[*cache.Cache]
	configs      *host.Fronts[*conf.Config]
	secrets      *host.Fronts[*secret.Secret]
	states       *host.Fronts[*state.State]
	pubsubs      *host.Fronts[*pubsub.PubSub]
	locks        *host.Fronts[*lock.Lock]
	schedules    *host.Fronts[*schedule.Schedule]
	sequences    *host.Fronts[*sequence.Sequence]
	registries   *host.Fronts[*registry.Registry]
	transactions *host.Fronts[*transaction.Transactions]
}

func (s *sidecar) config() *config.Config { return s.conf.Load() }

// newSidecar makes one that has no parts yet, but can be told to end.
func newSidecar(ctx context.Context, o Options, end context.CancelFunc) *sidecar {
	c := o.Config
	s := &sidecar{opts: o, app: components.Caller{Namespace: c.App.Namespace, App: c.App.ID}, childDone: make(chan error, 1),
		assembled: make(chan struct{}), broken: make(chan error, 1), end: end, spare: newSpare()}
	s.conf.Store(c)
	s.bg, s.endBG = context.WithCancel(context.WithoutCancel(ctx))
	s.cut, s.cutShort = context.WithCancel(context.WithoutCancel(ctx))
	s.draining, s.drain = context.WithCancel(context.WithoutCancel(ctx))
	s.turned, s.turn = context.WithCancel(context.WithoutCancel(ctx))
	s.startDraining()
	s.reloads = newReloads(s, o.Load)
	return s
}

// assemble makes the parts and binds the sockets; nothing runs yet. What it made before it failed it takes back.
func (s *sidecar) assemble(ctx context.Context) (err error) {
	c := s.config()
	if s.dataDir, err = DataDir(c.DataDir); err != nil {
		return err
	}
	if err = s.open(ctx); err != nil {
		return err
	}
	s.telemetry, err = telemetry.New(ctx, c.Telemetry, telemetry.Info{Version: s.opts.Version, App: c.App.ID, Namespace: c.App.Namespace,
		Code: api.Code})
	if err != nil {
		s.closeSockets(ctx)
		return err
	}
	s.log = s.telemetry.Logger
	s.branches = newBranches(&s.fronts)
	s.host, s.fronts = newHost(s.telemetry, s.log, s.dataDir, s.branches.options(s.app, s.log))
	s.telemetry.ShowComponents(s.componentsUp)
	s.admin = s.newAdmin()
	close(s.assembled)
	return nil
}

// newHost is the table of capabilities.
func newHost(t *telemetry.Telemetry, log *slog.Logger, dataDir string, tx transaction.Options) (*host.Host, fronts) {
	var f fronts
	o := host.Options{Logger: log, DataDir: dataDir, Secret: func(ctx context.Context, component, key string) (string, error) {
		front, err := f.secrets.Get(component)
		if err != nil {
			return "", err
		}
		return front.Reveal(ctx, key)
	}}
	if t != nil {
		o.Observe, o.Meter = t.Observer(), t.ComponentRegisterer
	}
	events := pubsub.Options{Logger: log}
	if t != nil {
		events.Count = t.Metrics.CountDeliveries
	}
	h := host.New(o)
	f.caches = host.Add(h, cache.Drivers, cache.New)
	f.configs = host.Add(h, conf.Drivers, conf.New)
	f.secrets = host.Add(h, secret.Drivers, secret.New)
	f.states = host.Add(h, state.Drivers, state.New)
	f.pubsubs = host.Add(h, pubsub.Drivers, func(c *components.Component[pubsub.Driver]) *pubsub.PubSub { return pubsub.New(c, events) })
	f.locks = host.Add(h, lock.Drivers, lock.New)
	f.sequences = host.Add(h, sequence.Drivers, sequence.New)
	f.schedules = host.Add(h, schedule.Drivers, func(c *components.Component[schedule.Driver]) *schedule.Schedule { return schedule.New(c, log) })
	f.transactions = host.Add(h, transaction.Drivers, func(c *components.Component[transaction.Driver]) *transaction.Transactions {
		return transaction.New(c, tx)
	})
	f.registries = host.Add(h, registry.Drivers, registry.New)
	return h, f
}

// Dial opens each component of a configuration once and tells how that went, without running a sidecar.
func Dial(ctx context.Context, c *config.Config) (map[components.ID]error, error) {
	dir, err := DataDir(c.DataDir)
	if err != nil {
		return nil, err
	}
	h, _ := newHost(nil, slog.New(slog.DiscardHandler), dir, transaction.Options{})
	return h.Dial(ctx, c), nil
}

func (s *sidecar) componentsUp() iter.Seq2[components.ID, bool] {
	return func(yield func(components.ID, bool) bool) {
		for _, state := range s.host.States() {
			if !yield(components.ID{Capability: state.Capability, Name: state.Name, Driver: state.Driver}, state.State == host.Ready) {
				return
			}
		}
	}
}

func (s *sidecar) closeSockets(context.Context) error {
	s.sockets.close()
	if s.before != nil {
		s.before.link.close()
	}
	if next := s.after.Load(); next != nil {
		next.link.close() // it may know now that this one has gone
	}
	return nil
}

// startComponents waits for those that are required as long as a reload would.
func (s *sidecar) startComponents(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, s.config().Reload.Timeout)
	defer cancel()
	err := s.host.Start(limit, s.config())
	if err == nil {
		return nil
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), finish)
	defer cancel()
	return errors.Join(err, s.host.Close(end))
}

// registry is the front of the component that mesh.registry names.
func (s *sidecar) registry() (*registry.Registry, error) {
	return s.fronts.registries.Get(s.config().Mesh.Registry)
}

func (s *sidecar) startMesh(ctx context.Context) (err error) {
	c := s.config()
	s.startIdentity()
	if err := s.startPolicies(ctx); err != nil {
		return err
	}
	s.directory = mesh.NewDirectory(s.names(), s.log)
	s.directory.Hold = c.Mesh.Hold
	s.directory.Counted = s.spare.fit
	s.remember()
	s.publisher, err = publish.New(publish.Options{Names: s.names(), App: s.app.App, Announce: s.announce(), Identity: s.spiffe, Logger: s.log,
		File: filepath.Join(s.dataDir, "publications", s.app.Namespace+"."+s.app.App+".json")})
	if err != nil {
		s.directory.Close()
		s.rules.Close()
		return err
	}
	s.publisher.Declare(declared(s.config()))
	return nil
}

// remember has the directory keep on disk what it knows, for a start while the registry is away.
func (s *sidecar) remember() {
	path := filepath.Join(s.dataDir, "mesh", s.app.Namespace+"."+s.app.App+".jsonl")
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = s.directory.Remember(path)
	}
	if err != nil {
		s.log.Warn("what was known of services before cannot be read", "file", path, "err", err)
	}
}

func (s *sidecar) stopMesh(ctx context.Context) error {
	err := s.withdraw(ctx)
	s.publisher.Close()
	s.directory.Close()
	s.rules.Close()
	return err
}

// declared are the services that the configuration publishes: one named like the application, and app.services.
func declared(c *config.Config) []publish.Publication {
	var all []publish.Publication
	if c.App.Port != 0 {
		all = append(all, publish.Publication{Port: c.App.Port, Ours: c.App.Protocol == "bolt" || c.App.Protocol == "dubbo", // which know no names of applications
			Service: mesh.Service{Namespace: c.App.Namespace, Name: c.App.ID, Protocol: c.App.Protocol}})
	}
	for _, s := range c.App.Services {
		of := mesh.Service{Namespace: c.App.Namespace, Name: s.Name, Group: s.Group, Version: s.Version, Protocol: s.Protocol}
		all = append(all, publish.Publication{Port: s.Port, Weight: s.Weight, Zone: s.Zone, Labels: s.Labels, Itself: s.Itself, Service: forms.Canonical(of)})
	}
	return all
}

// announce is the address that other sidecars reach this one at.
func (s *sidecar) announce() string {
	port := strconv.Itoa(portOf(s.sockets.inbound))
	if a := s.config().Mesh.Inbound.Advertise; a != "" {
		if _, _, err := net.SplitHostPort(a); err == nil {
			return a
		}
		return net.JoinHostPort(a, port)
	}
	a := s.sockets.inbound.Addr().(*net.TCPAddr)
	if a.IP.IsUnspecified() {
		return net.JoinHostPort(ownAddress(), port)
	}
	return net.JoinHostPort(a.IP.String(), port)
}

// ownAddress is the one that this machine calls others from; asking for it sends nothing.
func ownAddress() string {
	nc, err := net.Dial("udp", "192.0.2.1:9") // an address of documentation (RFC 5737)
	if err != nil {
		return "127.0.0.1"
	}
	defer nc.Close()
	return nc.LocalAddr().(*net.UDPAddr).IP.String()
}

func socketOf(ln net.Listener) string {
	if ln == nil {
		return ""
	}
	return ln.Addr().String()
}

// becomeReady prints where everything is and begins to look for changes of the configuration.
func (s *sidecar) becomeReady(ctx context.Context) error {
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	s.wasReady.Store(true) // before a reload that was asked for meanwhile
	s.tasks.Go(func() { s.reloads.watch(s.bg) })
	s.api.SetReady(true)
	s.takeOver()
	s.serveHandover()
	fmt.Fprintf(s.opts.Out, "outrigger %s is ready: app %s, grpc %s, http %s, outbound %s, inbound %s, admin %s, pid %d\n", s.opts.Version, s.app,
		s.sockets.grpc.Addr(), s.sockets.http.Addr(), s.sockets.outbound.Addr(), s.sockets.inbound.Addr(), s.sockets.admin.Addr(), os.Getpid())
	return nil
}
