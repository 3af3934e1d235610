// Package local coordinates transactions on the local store: one durable folder that all sidecars of a machine with the same data folder
// share, and nothing else to install.
//
// A transaction is driven by a sidecar of the application that began it; when that one goes, or is frozen for longer than the lease, by
// another one of the application. docs/transactions.md says what that is worth.
//
// # Records
//
// In the store's space "transaction", C being the component's name; each is the byte 1, for the format, and a map of CBOR:
//
//	c C/NAMESPACE/APP/GID        what it is to do: see content
//	r C/NAMESPACE/APP/GID        what has become of it: see run
//	x TIME C/NAMESPACE/APP/GID   nothing; when it is to be forgotten, by the store's clock, in 16 hexadecimal digits
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

func init() {
	components.Register(transaction.Drivers, "local", Options{Durability: string(db.Disk), Timeout: time.Minute, CallTimeout: 10 * time.Second,
		FirstPause: 100 * time.Millisecond, LongPause: 10 * time.Second, Lease: 10 * time.Second, Concurrency: 256, MaxUnfinished: 100_000,
		Retention: 7 * 24 * time.Hour}, Open)
}

// Options of the driver.
type Options struct {
	Durability    string        `yaml:"durability" doc:"disk: a transaction and what is decided of it is synced before anything follows from it; os: a loss of power may undo it, and leave half of a transaction"`
	Timeout       time.Duration `yaml:"timeout" doc:"for a saga's actions and for an open TCC, after which they are rolled back, and for a message until the application is asked back; of those that say nothing"`
	CallTimeout   time.Duration `yaml:"call_timeout" doc:"of one call of a branch; of those that say nothing"`
	FirstPause    time.Duration `yaml:"first_pause" doc:"after the first attempt whose outcome is unknown, from where it doubles; of those that say nothing"`
	LongPause     time.Duration `yaml:"longest_pause" doc:"up to which it doubles; of those that say nothing"`
	Lease         time.Duration `yaml:"lease" doc:"how long a sidecar that says nothing keeps the transactions that it drives"`
	Concurrency   int           `yaml:"concurrency" doc:"calls of branches that a sidecar makes at once"`
	MaxUnfinished int           `yaml:"max_unfinished" doc:"transactions of the component that have not ended; more are refused"`
	Retention     time.Duration `yaml:"retention" doc:"how long a transaction is kept when it has ended"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{store.CheckDurability(o.Durability)}
	for _, n := range []struct {
		name string
		is   int
	}{{"concurrency", o.Concurrency}, {"max_unfinished", o.MaxUnfinished}} {
		if n.is < 1 {
			faults = append(faults, fmt.Errorf("%s: %d is less than 1", n.name, n.is))
		}
	}
	for _, d := range []struct {
		name     string
		is       time.Duration
		from, to time.Duration
	}{{"timeout", o.Timeout, transaction.MinPause, transaction.MaxTimeout}, {"call_timeout", o.CallTimeout, transaction.MinPause, time.Hour},
		{"first_pause", o.FirstPause, transaction.MinPause, o.LongPause}, {"longest_pause", o.LongPause, transaction.MinPause, 24 * time.Hour},
		{"lease", o.Lease, 500 * time.Millisecond, time.Hour}, {"retention", o.Retention, 0, transaction.MaxTimeout}} {
		if d.is < d.from || d.is > d.to {
			faults = append(faults, fmt.Errorf("%s: %s is not from %s to %s", d.name, d.is, d.from, d.to))
		}
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- A transaction that was acknowledged comes to its end, whatever process is killed or frozen meanwhile: all of its branches are done, or all that may have been done are taken back. It waits while no sidecar of its application runs.
- It is on the disk before its first branch is called, and so is what was decided before anything follows from it; with ` + "`durability: os`" + ` a loss of power can leave half of it.
- One sidecar at a time drives a transaction. One that was frozen for longer than the lease can change nothing when it wakes; the calls that it still makes have no effect on participants with a barrier.
- Branches are called at least once, and may be called late: exactly once is what the barrier of the participant makes of that.
- Pauses and deadlines run by the store's clock, which goes on evenly whatever is done to the wall clock.
- There is no isolation: others see the effects of branches before the transaction has ended.`
}

// driver asks the machine of the store, wherever that is.
type driver struct {
	store.Client
	options Options
	name    string // of the component, and a slash
	log     *slog.Logger
	session atomic.Uint64          // that this one drives with; 0: none
	drives  atomic.Pointer[string] // the application
	places  chan struct{}          // one for each call of a branch
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
)

// Open joins the store. It must be closed.
func Open(ctx context.Context, env components.Env, o Options) (transaction.Driver, error) {
	link, err := store.Join(ctx, env)
	if err != nil {
		return nil, err
	}
	log := env.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &driver{Client: store.Client{Link: link}, options: o, name: env.ID.Name + "/", log: log, places: make(chan struct{}, o.Concurrency)}
	if env.Meter != nil {
		env.Meter.MustRegister(meter{d})
	}
	return d, nil
}

func (d *driver) Defaults() transaction.Policy {
	return transaction.Policy{Timeout: d.options.Timeout, CallTimeout: d.options.CallTimeout, FirstPause: d.options.FirstPause, LongPause: d.options.LongPause}
}

func (d *driver) durability() db.Durability { return db.Durability(d.options.Durability) }

func (d *driver) Begin(ctx context.Context, key string, c transaction.Content) (transaction.Info, error) {
	out, err := beginCall.Call(ctx, d.Link, beginIn{Key: d.name + key, Content: content{Content: c, Retention: d.options.Retention},
		Durability: d.durability(), Session: d.session.Load(), Max: d.options.MaxUnfinished})
	if err == nil && out.New {
		d.say(d.name+key, out.State, "")
	}
	return out.Info, err
}

func (d *driver) Register(ctx context.Context, key string, b transaction.Branch) error {
	_, err := registerCall.Call(ctx, d.Link, registerIn{Key: d.name + key, Branch: &b, Durability: d.durability()})
	return err
}

// Tried needs no sync: what is lost of it keeps a commit from being made, and is said again.
func (d *driver) Tried(ctx context.Context, key, branch string) error {
	_, err := registerCall.Call(ctx, d.Link, registerIn{Key: d.name + key, Tried: branch, Durability: db.OS})
	return err
}

func (d *driver) Decide(ctx context.Context, key string, what transaction.Decision) (transaction.Info, error) {
	out, err := decideCall.Call(ctx, d.Link, decideIn{Key: d.name + key, Decision: what, Durability: d.durability()})
	if err == nil && out.Changed {
		d.say(d.name+key, out.Info.State, out.Info.Failed)
	}
	return out.Info, err
}

func (d *driver) Get(ctx context.Context, key string) (transaction.Info, error) {
	return getCall.Call(ctx, d.Link, getIn{Key: d.name + key})
}

func (d *driver) List(ctx context.Context, q transaction.Query) ([]transaction.Info, bool, error) {
	out, err := listCall.Call(ctx, d.Link, listIn{Prefix: d.name + q.Application, After: q.After, Limit: q.Limit, States: q.States, OlderThan: q.OlderThan})
	return out.All, out.More, err
}

// Wait waits anew when the store has another owner.
func (d *driver) Wait(ctx context.Context, key string) (info transaction.Info, err error) {
	over := errors.New("it is over")
	err = waitCall.Follow(ctx, d.Link, getIn{Key: d.name + key}, func() func(transaction.Info) (bool, error) {
		return func(out transaction.Info) (bool, error) {
			info = out
			return true, over
		}
	})
	if errors.Is(err, over) {
		err = nil
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: the store ended the wait", components.ErrUnavailable)
	}
	return info, err
}

// Close leaves the store.
func (d *driver) Close(ctx context.Context) error { return d.Client.Close(ctx) }

// say logs a change of state, and nothing of what was sent or answered.
func (d *driver) say(key string, s transaction.State, failed string) {
	args := []any{"op", "drive", "gid", name(key), "state", s}
	if failed != "" {
		args = append(args, "branch", failed)
	}
	d.log.Info("transaction", args...)
}

// meter shows how many transactions there are of the application that the driver drives.
type meter struct{ d *driver }

// Describe implements prometheus.Collector.
func (m meter) Describe(out chan<- *prometheus.Desc) { transaction.Describe(out) }

// Collect implements prometheus.Collector.
func (m meter) Collect(out chan<- prometheus.Metric) {
	app := m.d.drives.Load()
	if app == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), transaction.CountTime)
	defer cancel()
	c, err := countCall.Call(ctx, m.d.Link, getIn{Key: m.d.name + *app})
	if err != nil {
		return
	}
	c.Collect(out, transaction.States)
	c.CollectStuck(out)
}
