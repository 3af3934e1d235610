// Package postgres keeps state in PostgreSQL. The tables are made in a schema of their own, in which several components, and the lock and
// sequence drivers, may be side by side.
//
// A transaction is one call of a function at the server, and one round trip: what several of them touch, one after the other works on, by
// advisory locks of the database. So there is nothing to repeat, and no connection that holds up others while its sidecar thinks. Keys
// are texts in the order of their bytes, values are as they came.
//
// Connections are kept for good and have prepared statements: a pooler in between must give each its own connection to the server.
package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/state"
)

func init() {
	components.Register(state.Drivers, "postgres", Options{Postgres: postgresconn.Defaults(), Idempotency: 24 * time.Hour, Barriers: 7 * 24 * time.Hour, Sweep: 5 * time.Second}, Open)
}

// Options of the driver.
type Options struct {
	Postgres    postgresconn.Options `yaml:"postgres"`
	Idempotency time.Duration        `yaml:"idempotency" doc:"how long an idempotency key gives the first answer again"`
	Barriers    time.Duration        `yaml:"barriers" doc:"how long the calls of a transaction's branches are remembered"`
	Fences      time.Duration        `yaml:"fences" doc:"how long the newest token of a lock is remembered after its last write; 0: for ever"`
	Sweep       time.Duration        `yaml:"sweep" doc:"about how often the room of what has expired is taken back"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{o.Postgres.Validate()}
	for _, d := range []struct {
		name        string
		is, atLeast time.Duration
	}{{"idempotency", o.Idempotency, time.Millisecond}, {"barriers", o.Barriers, time.Millisecond}, {"fences", o.Fences, 0}, {"sweep", o.Sweep, 10 * time.Millisecond}} {
		if d.is < d.atLeast || d.is > state.MaxTTL {
			faults = append(faults, fmt.Errorf("%s: %s is not a time that records can be kept for", d.name, d.is))
		}
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- An acknowledged write is as durable as the server makes it: on its disk. A server with ` + "`fsync`" + ` or ` + "`synchronous_commit`" + ` off is refused, at each connection,
  unless ` + "`allow_loss: true`" + `.
- A fail-over loses nothing that was acknowledged if replication is synchronous (` + "`synchronous_standby_names`" + `, and ` + "`synchronous_commit`" + ` on or higher). With an
  asynchronous replica the last writes before it are gone, together with what was remembered of their idempotency keys, barriers and fences: a token older than
  one that was lost is taken again. While two servers both take themselves for the primary, each has a state of its own.
- Of several addresses the one that can be written to is used; who was connected to a server that is not the primary any more looks for another.
- Reads see every write that was acknowledged before they began, through any sidecar. A transaction is seen whole or not at all, by ` + "`GetMany`" + ` and by each page of a list,
  too.
- A version never comes back: not after a delete, an expiry or a restart, and, but by a chance of 1 in 2^32 for each, not after a fail-over that lost some or where a
  backup was restored.
- Times to live are counted by the server's wall clock: whoever sets it changes them. What has expired is gone at once; its room is taken back some time later.
- A write whose connection is lost on the way fails with ` + "`BACKEND_OUTCOME_UNKNOWN`" + `; all else that fails was not done.
- The tables are made when the first sidecar opens the component, if its user may; otherwise only rights on the schema, its tables, sequences and functions are
  needed. A schema of a newer version is refused.
- Tables or functions that somebody drops while sidecars run are made anew by the first call that misses them, or when it is swept, with a line in the log, if the user may; otherwise
  calls fail with ` + "`BACKEND_REFUSED`" + ` until another has made them. What was in them is lost: items, and what was remembered of idempotency keys, barriers and fences. Restore a backup
  in one transaction, or while no sidecar runs: else they are there again before it.`
}

//go:embed schema.sql
var schema string

// Open connects, and makes the tables if need be. The driver must be closed.
func Open(ctx context.Context, env components.Env, o Options) (state.Driver, error) {
	client, release, err := postgresconn.Open(ctx, env, o.Postgres)
	if err != nil {
		return nil, err
	}
	if err := client.Install(ctx, postgresconn.Part{Name: "state", Steps: []string{schema}}); err != nil {
		release()
		return nil, err
	}
	d := &driver{Client: client, options: o, name: env.ID.Name + "/", log: env.Logger, release: release}
	working, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.work.Go(func() { postgresconn.Every(working, o.Sweep, d.sweep) })
	return d, nil
}

type driver struct {
	*postgresconn.Client
	options Options
	name    string // of the component, and a slash
	log     *slog.Logger
	release func()
	stop    context.CancelFunc
	work    sync.WaitGroup
	said    string // why the sweep could not
}

var (
	_ state.ManyGetter   = (*driver)(nil)
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
)

// Close ends the driver, and the connections with the last one that uses them.
func (d *driver) Close(context.Context) error {
	d.stop()
	d.work.Wait()
	d.release()
	return nil
}

// sweepStep is how many rows of a table go in one statement.
const sweepStep = 500

// sweep takes back the room of what has expired. Why it cannot is said once, and again when that has changed.
func (d *driver) sweep(ctx context.Context) {
	for gone := int64(sweepStep); gone == sweepStep; {
		err := d.Do(ctx, postgresconn.Statement{SQL: "select state_sweep($1, $2)", Args: []any{sweepStep, d.LockID("state", "sweep")}, Row: postgresconn.Scan(&gone)})
		if err != nil {
			if said := postgresconn.Code(err); ctx.Err() == nil && said != d.said {
				d.said = said
				d.log.Warn("what has expired could not be removed", "err", err)
			}
			return
		}
		d.said = "done"
	}
}
