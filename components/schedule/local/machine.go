package local

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

func init() { store.Register("schedule", openMachine) }

// machine fires, in the process that owns the store, the jobs of all components of all sidecars.
//
// What it knows of a job is what is on the disk: an update decides, and takes the job along once it is safe. Between those the job
// is busy.
type machine struct {
	ctx   context.Context
	space *db.Space
	log   *slog.Logger
	clock *clock
	loop  sync.WaitGroup
	wake  chan struct{} // of the loop: a timer may be earlier

	unwritten atomic.Bool // something could not be, which was said

	mu      sync.Mutex
	jobs    map[string]*job
	apps    map[string]*app // by C/NAMESPACE/APP/
	onStore timers          // of the store's clock
	onWall  timers          // of the machine's clock
	claims  uint64          // that there were, to name them
}

func openMachine(ctx context.Context, space *db.Space, log *slog.Logger) (store.Machine, error) {
	return open(ctx, space, log)
}

func open(ctx context.Context, space *db.Space, log *slog.Logger) (*machine, error) {
	m := &machine{ctx: ctx, space: space, log: log, clock: newClock(space), wake: make(chan struct{}, 1),
		jobs: map[string]*job{}, apps: map[string]*app{}}
	if err := m.recover(); err != nil {
		return nil, err
	}
	m.loop.Go(m.fireAll)
	return m, nil
}

func (m *machine) Close() { m.loop.Wait() }

func (m *machine) Handlers(mux *store.Mux) {
	createCall.Handle(mux, m.create)
	getCall.Handle(mux, m.get)
	listCall.Handle(mux, m.list)
	deleteCall.Handle(mux, m.remove)
	watchCall.Handle(mux, m.watch)
}

// recover learns all jobs but those that cannot be read.
func (m *machine) recover() error {
	v := m.space.View()
	defer v.Close()
	for raw, value := range v.Scan([]byte("j"), db.After([]byte("j"))) {
		key := string(raw[1:])
		switch j, err := read(v, key, value); {
		case errors.Is(err, components.ErrDamaged):
			m.without(key, nil, err)
		case err != nil:
			return err
		default:
			m.put(newJob(key, &j.content, j.times), j.run)
		}
	}
	return v.Err()
}

// without goes on without a job whose records cannot be read; j is nil before it was taken in.
func (m *machine) without(key string, j *job, why error) {
	m.log.Error("a job does not fire", "op", "fire", "job", name(key), "err", why)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.jobs[key] == j {
		m.forget(key)
	}
}

// reader is an update or a view.
type reader interface {
	Get(key []byte) (value []byte, ok bool, err error)
}

// records are what there is of a job.
type records struct {
	content content
	run     run
	times   schedule.Times
}

// read answers ErrDamaged if a job cannot be fired, for what its records are.
func read(r reader, key string, raw []byte) (j records, err error) {
	if err := decode(key, raw, &j.content); err != nil {
		return j, err
	}
	ok, err := get(r, key, runKey(key), &j.run)
	if err == nil && !ok {
		err = unreadable(key, errors.New("what became of it is not there"))
	}
	if err != nil {
		return j, err
	}
	if j.times, err = j.content.trigger().Times(j.content.Origin); err != nil {
		return j, unreadable(key, err)
	}
	return j, nil
}

// find answers false for a key that has no job.
func find(r reader, key string) (j records, ok bool, err error) {
	raw, ok, err := r.Get(contentKey(key))
	if errors.Is(err, components.ErrDamaged) {
		err = unreadable(key, err)
	}
	if err != nil || !ok {
		return j, false, err
	}
	j, err = read(r, key, raw)
	return j, true, err
}

// get reads one of a job's records; false: it is not there.
func get(r reader, key string, record []byte, into any) (ok bool, err error) {
	raw, ok, err := r.Get(record)
	if errors.Is(err, components.ErrDamaged) { // the part of the file where it is
		return false, unreadable(key, err)
	}
	if err != nil || !ok {
		return false, err
	}
	return true, decode(key, raw, into)
}

func (m *machine) create(ctx context.Context, in createIn) (state schedule.State, err error) {
	err = m.space.Update(ctx, db.Durability(in.Durability), func(tx *db.Tx) error {
		there, ok, err := find(tx, in.Key)
		switch {
		case err != nil && !(in.Replace && errors.Is(err, components.ErrDamaged)):
			return err
		case err == nil && ok && there.content.job(in.Job.Name).Same(in.Job):
			state = m.state(in.Key, &there)
			return nil
		case ok && !in.Replace:
			return schedule.Exists()
		}
		fresh, err := m.begin(&in, tx)
		if err != nil {
			return err
		}
		state = m.state(in.Key, &fresh)
		return m.write(tx, in.Key, &fresh)
	})
	return state, err
}

// write stores a new job, and takes it in when that is safe. By then nothing is used any more of what its caller has lent.
func (m *machine) write(tx *db.Tx, key string, fresh *records) error {
	raw, err := store.EncodeRecord(&fresh.content)
	if err != nil {
		return err
	}
	tx.Set(contentKey(key), raw)
	if err := m.writeRun(tx, key, &fresh.run); err != nil {
		return err
	}
	j, r := newJob(key, &fresh.content, fresh.times), fresh.run
	tx.Then(func() { m.put(j, r) })
	return nil
}

func (m *machine) writeRun(tx *db.Tx, key string, r *run) error {
	r.Revision = tx.NextID()
	raw, err := store.EncodeRecord(r)
	if err == nil {
		tx.Set(runKey(key), raw)
	}
	return err
}

func (m *machine) get(_ context.Context, in getIn) (schedule.State, error) {
	v := m.space.View()
	defer v.Close()
	j, ok, err := find(v, in.Key)
	if err != nil {
		return schedule.State{}, err
	}
	if !ok {
		return schedule.State{}, schedule.NotFound()
	}
	return m.state(in.Key, &j), nil
}

func (m *machine) list(ctx context.Context, in listIn) (out listOut, err error) {
	v := m.space.View()
	defer v.Close()
	from := contentKey(in.Prefix)
	if in.After >= in.Prefix && in.After != "" {
		from = append(contentKey(in.After), 0)
	}
	bytes := int64(0)
	for raw, value := range v.Scan(from, db.After(contentKey(in.Prefix))) {
		if err := ctx.Err(); err != nil {
			return listOut{}, err
		}
		key := string(raw[1:])
		j, err := read(v, key, value)
		if err != nil {
			return listOut{}, err
		}
		state := m.state(key, &j)
		bytes += state.Size()
		if out.Jobs = append(out.Jobs, state); len(out.Jobs) == in.Limit || bytes >= schedule.PageBytes {
			break
		}
	}
	return out, v.Err()
}

// state is what is told of a job. What is next by the store's clock is put as the wall clock would.
func (m *machine) state(key string, j *records) schedule.State {
	next := j.run.Next
	if !next.IsZero() && !j.content.trigger().OnWall() {
		next = m.clock.of(db.Time(next.UnixNano()))
	}
	return schedule.State{Job: j.content.job(name(key)), Next: next, Fired: j.run.Fired, Last: j.run.Last}
}

func (m *machine) remove(ctx context.Context, in deleteIn) (struct{}, error) {
	return struct{}{}, m.space.Update(ctx, db.Durability(in.Durability), func(tx *db.Tx) error {
		m.erase(tx, in.Key)
		return nil
	})
}

func (m *machine) erase(tx *db.Tx, key string) {
	tx.Delete(contentKey(key))
	tx.Delete(runKey(key))
	tx.Then(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.forget(key)
	})
}
