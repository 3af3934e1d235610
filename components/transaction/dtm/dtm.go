// Package dtm has a DTM server (https://github.com/dtm-labs/dtm) coordinate transactions: it stores them, decides which branch is next, and calls
// that on a port of the sidecar, which makes the call as all calls of its application are made: by the mesh, with its identity, policies and
// traces.
//
// docs/transactions.md says what that is worth, and what differs from the driver local.
package dtm

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dtm-labs/client/dtmgrpc/dtmgpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

func init() {
	components.Register(transaction.Drivers, "dtm", Options{Address: "127.0.0.1:36790", HTTP: "127.0.0.1:36789", Listen: "127.0.0.1:7073",
		Timeout: time.Minute, CallTimeout: 10 * time.Second, FirstPause: 100 * time.Millisecond, LongPause: 10 * time.Second,
		RequestTimeout: 3 * time.Second, RetryInterval: 3 * time.Second, Concurrency: 256}, Open)
}

// Options of the driver.
type Options struct {
	Address        string            `yaml:"address" doc:"HOST:PORT of DTM's gRPC interface"`
	HTTP           string            `yaml:"http" doc:"HOST:PORT of its HTTP interface, which is asked how transactions are"`
	Listen         string            `yaml:"listen" doc:"HOST:PORT on which DTM calls the branches of this application's transactions; each component, and each sidecar of a machine, needs its own"`
	Callback       string            `yaml:"callback" doc:"HOST:PORT that DTM is told to call; empty: listen. It stays in the records of DTM: one that leads to all sidecars of the application lets another one go on when this one is gone"`
	Token          components.Secret `yaml:"token" doc:"whoever does not know it cannot have branches called here; the same for all sidecars of an application; empty: a random one, kept in the data folder"`
	Prefix         string            `yaml:"prefix" doc:"of the gids in DTM, followed by a colon, where several meshes use one DTM"`
	Timeout        time.Duration     `yaml:"timeout" doc:"for a saga's actions and for an open TCC, after which they are rolled back, and for a message until the application is asked back; of those that say nothing"`
	CallTimeout    time.Duration     `yaml:"call_timeout" doc:"of one call of a branch; of those that say nothing"`
	FirstPause     time.Duration     `yaml:"first_pause" doc:"after the first attempt whose outcome is unknown, from where it doubles; of those that say nothing. The next attempt is made when DTM calls after that"`
	LongPause      time.Duration     `yaml:"longest_pause" doc:"up to which it doubles; of those that say nothing"`
	RequestTimeout time.Duration     `yaml:"request_timeout" doc:"for DTM to answer"`
	RetryInterval  time.Duration     `yaml:"retry_interval" doc:"after which DTM calls again what had no outcome; whole seconds"`
	Concurrency    int               `yaml:"concurrency" doc:"calls of branches that are made at once"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{backend.CheckAddresses("address", []string{o.Address}), backend.CheckAddresses("http", []string{o.HTTP}),
		checkListen(o.Listen)}
	if o.Callback != "" {
		faults = append(faults, backend.CheckAddresses("callback", []string{o.Callback}))
	} else if host, _, err := net.SplitHostPort(o.Listen); err == nil && unspecified(host) {
		faults = append(faults, fmt.Errorf("callback: listen is %q, which is no address that DTM can call: say where it reaches this sidecar", o.Listen))
	}
	if len(cmp.Or(o.Callback, o.Listen)) > maxCallback {
		faults = append(faults, fmt.Errorf("callback: longer than %d bytes", maxCallback))
	}
	if t := o.Token.Reveal(); t != "" && len(t) < minToken {
		faults = append(faults, fmt.Errorf("token: shorter than %d bytes", minToken))
	}
	if len(o.Prefix) > 32 || strings.ContainsFunc(o.Prefix, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-", r) }) {
		faults = append(faults, fmt.Errorf("prefix: %.40q is not up to 32 of a-z, 0-9 and -", o.Prefix))
	}
	if o.Concurrency < 1 {
		faults = append(faults, fmt.Errorf("concurrency: %d is less than 1", o.Concurrency))
	}
	for _, d := range []struct {
		name     string
		is       time.Duration
		from, to time.Duration
	}{{"timeout", o.Timeout, transaction.MinPause, transaction.MaxTimeout}, {"call_timeout", o.CallTimeout, transaction.MinPause, time.Hour},
		{"first_pause", o.FirstPause, transaction.MinPause, o.LongPause}, {"longest_pause", o.LongPause, transaction.MinPause, 24 * time.Hour},
		{"request_timeout", o.RequestTimeout, 10 * time.Millisecond, time.Minute}, {"retry_interval", o.RetryInterval, time.Second, time.Hour}} {
		if d.is < d.from || d.is > d.to {
			faults = append(faults, fmt.Errorf("%s: %s is not from %s to %s", d.name, d.is, d.from, d.to))
		}
	}
	if o.RetryInterval%time.Second != 0 {
		faults = append(faults, fmt.Errorf("retry_interval: %s are no whole seconds, which DTM counts in", o.RetryInterval))
	}
	return errors.Join(faults...)
}

const (
	minToken    = 16
	maxCallback = 255 // bytes; DTM has 1024 for a URL
)

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func checkListen(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "" || port == "0" || host != "" && strings.ContainsAny(listen, " /@") {
		return fmt.Errorf("listen: %q is not HOST:PORT with a port that stays the same", listen)
	}
	return nil
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- A transaction that DTM has acknowledged comes to its end, whatever process is killed or frozen meanwhile: all of its branches are done, or all that may have been done are taken back. It waits while DTM is away, and while no sidecar can be reached at the address that DTM was told.
- What was acknowledged is as safe as DTM's store: bolt and SQL data bases sync it; Redis as it is set up.
- Branches are called at least once, and may be called late or twice at once: exactly once is what the barrier of the participant makes of that.
- Deadlines are noticed late: an open TCC's and a message's when DTM looks at it, which is each ` + "`RetryInterval`" + ` of its own configuration; they are counted in whole seconds, rounded up.
- A call whose outcome is unknown is made again when DTM calls next (` + "`retry_interval`" + ` and up to ` + "`TransCronInterval`" + ` later), and not before the policy's pause is over. Pauses are forgotten when the sidecar is restarted.
- A saga's abort takes effect when DTM calls an action next; the saga may have succeeded by then.
- Deliveries of a message, and confirms and cancels of a TCC, are made one after the other: one that does not succeed holds up those behind it.
- There is no isolation: others see the effects of branches before the transaction has ended.`
}

// driver speaks to one DTM.
type driver struct {
	options Options
	id      components.ID
	log     *slog.Logger
	conn    *grpc.ClientConn
	dtm     dtmgpb.DtmClient
	web     *web
	secret  []byte
	me      string        // this process
	places  chan struct{} // one for each call of a branch

	driving atomic.Pointer[session] // nil: no application's branches are called
	deaf    atomic.Pointer[error]   // why the port is not listened on

	mu     sync.Mutex
	all    map[string]*known   // by DTM's gid
	newest map[string]struct{} // gids that are being begun
}

var (
	_ components.Closer   = (*driver)(nil)
	_ components.Checker  = (*driver)(nil)
	_ transaction.Awaiter = (*driver)(nil)
)

// Open connects to DTM. It must be closed.
func Open(ctx context.Context, env components.Env, o Options) (transaction.Driver, error) {
	log := env.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	secret, err := secretOf(env, o)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+o.Address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: o.RequestTimeout,
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}}),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)), grpc.WithUserAgent("outrigger"))
	if err != nil {
		return nil, err
	}
	d := &driver{options: o, id: env.ID, log: log, conn: conn, dtm: dtmgpb.NewDtmClient(conn), web: newWeb(o), secret: secret, me: rand.Text()[:12],
		places: make(chan struct{}, o.Concurrency), all: map[string]*known{}, newest: map[string]struct{}{}}
	if err := d.Check(ctx); err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	if env.Meter != nil {
		env.Meter.MustRegister(&meter{d: d})
	}
	return d, nil
}

// Windows of what DTM is asked and calls, in bytes. Without them gRPC measures the line by a ping for each message, which wakes both ends once more.
const (
	streamWindow = 1 << 20
	connWindow   = 4 << 20
)

// Close implements components.Closer.
func (d *driver) Close(context.Context) error {
	d.web.close()
	if err := d.conn.Close(); err != nil && !errors.Is(err, grpc.ErrClientConnClosing) {
		return err
	}
	return nil
}

// Check asks both interfaces of DTM whether they are there.
func (d *driver) Check(ctx context.Context) error {
	if deaf := d.deaf.Load(); deaf != nil {
		return fmt.Errorf("%w: %w", components.ErrUnavailable, *deaf)
	}
	if err := d.web.version(ctx); err != nil {
		return err
	}
	return d.ask(ctx, safe, func(ctx context.Context) error {
		_, err := d.dtm.NewGid(ctx, &emptypb.Empty{})
		return err
	})
}

// Defaults implements transaction.Driver.
func (d *driver) Defaults() transaction.Policy {
	return transaction.Policy{Timeout: d.options.Timeout, CallTimeout: d.options.CallTimeout, FirstPause: d.options.FirstPause, LongPause: d.options.LongPause}
}

// seconds are those of a time that has passed for certain when DTM says so: one of its stores rounds when a transaction began.
func seconds(t time.Duration) int64 { return int64(math.Ceil((t + time.Second/2).Seconds())) }

// sayBegun is for who has begun it, once it is known that DTM keeps it: that may be when DTM first asks for a call.
func (d *driver) sayBegun(k *known) {
	if k.own {
		k.begun.Do(func() { d.say(k.key, begins[k.kind], "") })
	}
}

// sayOver is for who comes to know of the end first: DTM tells nobody.
func (d *driver) sayOver(k *known, info *transaction.Info) {
	k.over.Do(func() { d.say(info.GID, info.State, info.Failed) })
}

// sayDecided is for who has decided, and of an end the first to know.
func (d *driver) sayDecided(gid string, info *transaction.Info) {
	if k := d.peek(gid); k != nil && info.State.Final() {
		d.sayOver(k, info)
	} else {
		d.say(info.GID, info.State, "")
	}
}

// say logs a change of state, and nothing of what was sent or answered.
func (d *driver) say(key string, s transaction.State, failed string) {
	args := []any{"op", "drive", "gid", key, "state", s}
	if failed != "" {
		args = append(args, "branch", failed)
	}
	d.log.Info("transaction", args...)
}
