// Package postgres keeps locks in PostgreSQL, in a schema that it may share with the drivers of state and sequence.
//
// Each call is one call of a function at the server. Who waits has a place in a table, and is told by a notification, on a connection of
// the component's own, when the lock was freed; the first of a sidecar who wait for a lock asks for it then, and when its lease ends.
package postgres

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

func init() {
	components.Register(lock.Drivers, "postgres", Options{Postgres: postgresconn.Defaults(), Waiters: 1000, Sweep: 10 * time.Second}, Open)
}

// Options of the driver.
type Options struct {
	Postgres postgresconn.Options `yaml:"postgres"`
	Waiters  int                  `yaml:"waiters" doc:"how many calls, of all sidecars, may wait for one lock"`
	Sweep    time.Duration        `yaml:"sweep" doc:"about how often leases that ended are removed from the table"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{o.Postgres.Validate()}
	if o.Waiters < 1 || o.Waiters > 100_000 {
		faults = append(faults, fmt.Errorf("waiters: %d is not from 1 to 100000", o.Waiters))
	}
	if o.Sweep < 10*time.Millisecond {
		faults = append(faults, fmt.Errorf("sweep: %s is less than 10ms", o.Sweep))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- One owner at a time, among all sidecars with the same server and schema. Who has a lock is on the server's disk before anybody is told; a server with ` + "`fsync`" + `
  or ` + "`synchronous_commit`" + ` off is refused, unless ` + "`allow_loss: true`" + `.
- Tokens grow for ever. After a fail-over, or where a backup was restored on another server, they go on as if one had been given in each nanosecond since the tables were
  made, so that none comes again. Where the same server's files are put back as they were, such as by a snapshot of its disk, that is not noticed, and where a sidecar
  that starts finds no tables, since they were dropped, tokens begin anew: then fences refuse the new ones.
- Tables or functions that somebody drops while sidecars run are made anew by the first call that misses them, or when it is swept, with a line in the log, if the user may; otherwise
  calls fail with ` + "`BACKEND_REFUSED`" + ` until another has made them. What was in them is lost: who has a lock is told so when it is renewed, another may have got it by then, with a token
  that is greater as after a fail-over, and those who wait queue anew.
- Two holders are possible across a fail-over: with an asynchronous replica who got the lock last may be forgotten, and another gets it with a greater token. Synchronous
  replication (` + "`synchronous_standby_names`" + `) prevents that. While two servers both take themselves for the primary, both give the lock: only a fence at what is protected
  helps then, and their tokens may be equal.
- Leases run by the server's wall clock: whoever sets it changes them. One that has ended is gone for all at once.
- Those who wait are served first come, first served, at once when the lock is freed or its lease ends. While somebody waits for a lock, nobody else takes it
  when it is freed. A sidecar that dies while it waits holds up those behind it for up to 3 s. After a crash of the server those who wait queue anew.
- Who has stopped waiting does not get the lock: what was given to it meanwhile is given back, and so is what was given to a call whose answer was
  lost, once the server is reached again.`
}

//go:embed schema.sql
var schema string

// Open connects, and makes the tables if need be. The driver must be closed.
func Open(ctx context.Context, env components.Env, o Options) (lock.Driver, error) {
	client, release, err := postgresconn.Open(ctx, env, o.Postgres)
	if err != nil {
		return nil, err
	}
	if err := client.Install(ctx, postgresconn.Part{Name: "lock", Steps: []string{schema}}); err != nil {
		release()
		return nil, err
	}
	working, stop := context.WithCancel(context.Background())
	l := &locks{Client: client, options: o, prefix: env.ID.Name + "/", id: rand.Text(), release: release, working: working, stop: stop, queues: map[int64]*queue{}}
	l.work.Go(func() { postgresconn.Every(working, o.Sweep, l.sweep) })
	l.work.Go(func() { l.beat(working) })
	l.work.Go(func() { client.Listen(working, o.Postgres.Schema+"_lock", l.told, l.tellAll) })
	return l, nil
}

type locks struct {
	*postgresconn.Client
	options Options
	prefix  string // of keys
	id      string // of the client, for its tickets
	release func()
	working context.Context // ends when it is closed
	stop    context.CancelFunc
	work    sync.WaitGroup
	tasks   sync.WaitGroup // what is done later

	mu     sync.Mutex
	closed bool
	queues map[int64]*queue
}

var (
	_ lock.Waiter        = (*locks)(nil)
	_ components.Closer  = (*locks)(nil)
	_ components.Checker = (*locks)(nil)
)

// closing is how long Close tries to tell the server who has left.
const closing = 5 * time.Second

// Close ends the driver. Who waits has left before; that is told to the server first, if it is there.
func (l *locks) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	defer context.AfterFunc(bounded, l.stop)()
	l.tasks.Wait()
	l.stop()
	l.work.Wait()
	l.release()
	return nil
}

func (l *locks) sweep(ctx context.Context) {
	_ = l.Do(ctx, postgresconn.Statement{SQL: "select lock_sweep(1000)"}) // the next one does what this cannot
}

// want is who wants which lock.
type want struct {
	id         int64
	key, owner string
	call       string
	lease      time.Duration
	waits      bool
	ticket     int64
}

func (l *locks) want(key, owner string, lease time.Duration) want {
	key = l.prefix + key
	return want{id: l.LockID("lock", key), key: key, owner: owner, call: rand.Text(), lease: lease}
}

// taken is what the server answers.
type taken struct {
	lock.Lease
	given, first, crowded bool
	ticket                int64
}

const takeSQL = "select token, life, first, crowded, ticket from lock_take($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"

// take asks for the lock once.
func (l *locks) take(ctx context.Context, w want) (taken, error) {
	asked := time.Now()
	var t taken
	var token, life, ticket *int64
	var first *bool
	err := l.Do(ctx, postgresconn.Statement{SQL: takeSQL, Write: true, Row: postgresconn.Scan(&token, &life, &first, &t.crowded, &ticket),
		Args: []any{w.id, postgresconn.Patience(ctx), w.key, []byte(w.owner), w.lease.Milliseconds(), w.waits, l.id, w.call, l.options.Waiters, w.ticket},
		Late: func() { l.forget(w) }})
	if err != nil {
		return taken{}, err
	}
	if life != nil {
		t.Lease.Lease = time.Duration(*life) * time.Microsecond
	}
	if token != nil {
		t.given, t.Lease = true, lock.Lease{Token: uint64(*token), Lease: lock.Left(w.lease, asked)}
	}
	if ticket != nil {
		t.ticket = *ticket
	}
	t.first = first != nil && *first
	return t, nil
}

// forget takes back what the server may have given to a call that has ended without it. It goes on until the server is there, or the lease
// that it may have given has ended by itself. done is closed then.
func (l *locks) forget(w want) (done <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	over := make(chan struct{})
	if l.closed {
		close(over)
		return over
	}
	l.tasks.Go(func() {
		defer close(over)
		ctx, cancel := context.WithTimeout(l.working, max(w.lease, closing))
		defer cancel()
		pause := backend.Backoff{First: 10 * time.Millisecond, Most: 500 * time.Millisecond}
		for l.Do(ctx, postgresconn.Statement{SQL: "select lock_forget($1, $2, $3)", Args: []any{w.id, w.key, w.call}}) != nil {
			if pause.Wait(ctx) != nil {
				return
			}
		}
	})
	return over
}

// open tells whether it is not known what a call came to.
func open(err error) bool {
	var d *components.Detail
	return errors.As(err, &d) && d.Reason == backend.ReasonOutcomeUnknown
}

func (l *locks) TryLock(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
	w := l.want(key, owner, lease)
	t, err := l.take(ctx, w)
	switch {
	case err != nil:
		if open(err) {
			l.forget(w)
		}
		return lock.Lease{}, err
	case !t.given:
		return lock.Lease{}, lock.Held(t.Lease.Lease)
	}
	return t.Lease, nil
}

func (l *locks) Renew(ctx context.Context, key string, token uint64, lease time.Duration) (time.Duration, error) {
	w, held, asked := l.want(key, "", lease), false, time.Now()
	err := l.Do(ctx, postgresconn.Statement{SQL: "select lock_renew($1, $2, $3, $4, $5)", Write: true, Row: postgresconn.Scan(&held),
		Args: []any{w.id, postgresconn.Patience(ctx), w.key, int64(token), lease.Milliseconds()}})
	if err == nil && !held {
		err = lock.Lost()
	}
	return lock.Left(lease, asked), err
}

func (l *locks) Unlock(ctx context.Context, key string, token uint64) error {
	w, held := l.want(key, "", 0), false
	err := l.Do(ctx, postgresconn.Statement{SQL: "select lock_free($1, $2, $3, $4)", Write: true, Row: postgresconn.Scan(&held),
		Args: []any{w.id, postgresconn.Patience(ctx), w.key, int64(token)}})
	if err == nil && !held {
		err = lock.Lost()
	}
	return err
}
