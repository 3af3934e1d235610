// Package local fires jobs from the local store: one durable folder that all sidecars of a machine with the same data folder share,
// and nothing else to install.
//
// # Firings
//
// The process that owns the store fires for all of them. A firing is written down when it is due, then it is delivered, and it is
// removed when it is settled: the end of any process loses none. Who takes over the store fires what has become due meanwhile.
//
// # Time
//
// Intervals, delays and deadlines run by the store's clock, which no setting of the machine's time moves. Tables of cron and single
// times are for the clock on the wall, which may be set, rightly or by mistake. To tell is not possible at once; so a job is
// due when two clocks say so: the wall clock, and a second one that began with the wall clock's time when the owner started and has
// gone evenly since. The second takes over the wall clock's time once that has differed by about the same for 10 minutes: to be
// put right by a little now and then is not to be set. A table counts from what the wall clock shows when the job is created.
//
// A wall clock that is set ahead, then, fires nothing for 10 minutes that it did not fire anyway; if it is put right until then,
// nothing was early. If it was put right by being set ahead, jobs are late by at most those 10 minutes. A clock that is set back
// delays jobs until it shows their time, as it should where it was ahead; what has fired does not fire again. A process that becomes
// the owner believes the clock that it finds.
//
// # Records
//
// In the store's space "schedule", C being the component's name; each is the byte 1, for the format, and a map of CBOR:
//
//	j C/NAMESPACE/APP/NAME   a job, as it was created: see content
//	r C/NAMESPACE/APP/NAME   what has become of it: see run
package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

func init() {
	components.Register(schedule.Drivers, "local", Options{Durability: string(db.Disk), MaxAttempts: 20, MaxDelay: time.Hour,
		SkipAfter: 10 * time.Second, Retention: 24 * time.Hour}, Open)
}

// Options of the driver.
type Options struct {
	Durability  string        `yaml:"durability" doc:"when a job is acknowledged and a firing delivered: disk, once that is synced; os, once the system has it, which a loss of power may undo"`
	MaxAttempts int           `yaml:"max_attempts" doc:"deliveries of one firing before it is given up"`
	MaxDelay    time.Duration `yaml:"max_delay" doc:"the longest delay of a nack; a longer one is cut"`
	SkipAfter   time.Duration `yaml:"skip_after" doc:"how late a firing that is to be skipped when it is missed may still come"`
	Retention   time.Duration `yaml:"retention" doc:"how long a job that fires no more is remembered, so that creating it again does not fire it again"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{store.CheckDurability(o.Durability)}
	if o.MaxAttempts < 1 {
		faults = append(faults, fmt.Errorf("max_attempts: %d is less than 1", o.MaxAttempts))
	}
	for _, d := range []struct {
		name string
		is   time.Duration
	}{{"max_delay", o.MaxDelay}, {"skip_after", o.SkipAfter}, {"retention", o.Retention}} {
		if d.is < 0 || d.is > schedule.MaxEvery {
			faults = append(faults, fmt.Errorf("%s: %s is not from 0 to %s", d.name, d.is, schedule.MaxEvery))
		}
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- Shared by the sidecars of a machine that have the same data folder. One of them has the files open and fires for the others; when it goes another takes over.
- A job that was acknowledged, and a firing that was delivered, are on the disk, and survive the loss of power; with ` + "`durability: os`" + ` they survive the end of any process, but not that of the machine.
- A firing comes at least once, to one stream at a time, with the same id at each attempt. It waits while nobody watches, unless the job is to skip what it missed: then until ` + "`skip_after`" + `.
- A job fires again only when its firing before is settled; it costs no more than its handler can do, however often it is due.
- Never early. Intervals run by a clock that does not jump. Cron and single times go by the wall clock, and by a second one that follows the wall clock only after 10 minutes: an hour that the clock is set ahead by mistake fires nothing.`
}

// driver asks the machine of the store, wherever that is.
type driver struct {
	store.Client
	options Options
	name    string // of the component, and a slash
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
)

// Open joins the store. It must be closed.
func Open(ctx context.Context, env components.Env, o Options) (schedule.Driver, error) {
	link, err := store.Join(ctx, env)
	if err != nil {
		return nil, err
	}
	return &driver{Client: store.Client{Link: link}, options: o, name: env.ID.Name + "/"}, nil
}

func (d *driver) Policy() schedule.Policy {
	return schedule.Policy{MaxAttempts: d.options.MaxAttempts, MaxDelay: d.options.MaxDelay}
}

func (d *driver) Create(ctx context.Context, j schedule.Job, replace bool) (schedule.State, error) {
	out, err := createCall.Call(ctx, d.Link, createIn{Key: d.name + j.Name, Job: j, Replace: replace, Durability: d.options.Durability,
		SkipAfter: d.options.SkipAfter, Retention: d.options.Retention})
	return out, err
}

func (d *driver) Get(ctx context.Context, name string) (schedule.State, error) {
	return getCall.Call(ctx, d.Link, getIn{Key: d.name + name})
}

func (d *driver) List(ctx context.Context, prefix, after string, limit int) ([]schedule.State, error) {
	in := listIn{Prefix: d.name + prefix, Limit: limit}
	if after != "" {
		in.After = d.name + after
	}
	out, err := listCall.Call(ctx, d.Link, in)
	return out.Jobs, err
}

func (d *driver) Delete(ctx context.Context, name string) error {
	_, err := deleteCall.Call(ctx, d.Link, deleteIn{Key: d.name + name, Durability: d.options.Durability})
	return err
}
