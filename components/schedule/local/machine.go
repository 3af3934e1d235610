package local

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

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

// recover learns all jobs.
func (m *machine) recover() error {
	v := m.space.View()
	defer v.Close()
	for raw, value := range v.Scan([]byte("j"), db.After([]byte("j"))) {
		key := string(raw[1:])
		c, err := decode[content](key, value)
		if err != nil {
			return err
		}
		r, err := m.runOf(v, key)
		if err != nil {
			return err
		}
		if err := m.put(key, &c, r); err != nil {
			return err
		}
	}
	return v.Err()
}

// reader is an update or a view.
type reader interface {
	Get(key []byte) (value []byte, ok bool, err error)
}

func (m *machine) runOf(r reader, key string) (run, error) {
	raw, ok, err := r.Get(runKey(key))
	if err == nil && !ok {
		err = fmt.Errorf("%w: job %q has lost the record of what became of it", components.ErrDamaged, key)
	}
	if err != nil {
		return run{}, err
	}
	return decode[run](key, raw)
}

// find answers false for a key that has no job.
func (m *machine) find(r reader, key string) (c content, state run, ok bool, err error) {
	raw, ok, err := r.Get(contentKey(key))
	if err != nil || !ok {
		return c, state, false, err
	}
	if c, err = decode[content](key, raw); err != nil {
		return c, state, false, err
	}
	state, err = m.runOf(r, key)
	return c, state, err == nil, err
}

func (m *machine) create(ctx context.Context, in createIn) (state schedule.State, err error) {
	err = m.space.Update(ctx, db.Durability(in.Durability), func(tx *db.Tx) error {
		c, r, ok, err := m.find(tx, in.Key)
		if err != nil {
			return err
		}
		if ok && c.job(in.Job.Name).Same(in.Job) {
			state = m.state(in.Key, &c, &r)
			return nil
		}
		if ok && !in.Replace {
			return schedule.Exists()
		}
		fresh := contentOf(&in)
		fresh.Serial = tx.NextID()
		if r, err = m.begin(fresh, tx); err != nil {
			return err
		}
		state = m.state(in.Key, fresh, &r)
		return m.write(tx, in.Key, fresh, r)
	})
	return state, err
}

// write stores a new job, and takes it in when that is safe.
func (m *machine) write(tx *db.Tx, key string, c *content, r run) error {
	raw, err := encode(c)
	if err != nil {
		return err
	}
	tx.Set(contentKey(key), raw)
	if err := m.writeRun(tx, key, &r); err != nil {
		return err
	}
	tx.Then(func() {
		if err := m.put(key, c, r); err != nil {
			m.log.Error("a job was stored that cannot be fired", "op", "create", "job", key, "err", err)
		}
	})
	return nil
}

func (m *machine) writeRun(tx *db.Tx, key string, r *run) error {
	r.Revision = tx.NextID()
	raw, err := encode(r)
	if err == nil {
		tx.Set(runKey(key), raw)
	}
	return err
}

func (m *machine) get(_ context.Context, in getIn) (schedule.State, error) {
	v := m.space.View()
	defer v.Close()
	c, r, ok, err := m.find(v, in.Key)
	if err != nil {
		return schedule.State{}, err
	}
	if !ok {
		return schedule.State{}, schedule.NotFound()
	}
	return m.state(in.Key, &c, &r), nil
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
		c, err := decode[content](key, value)
		if err != nil {
			return listOut{}, err
		}
		r, err := m.runOf(v, key)
		if err != nil {
			return listOut{}, err
		}
		state := m.state(key, &c, &r)
		bytes += state.Size()
		if out.Jobs = append(out.Jobs, state); len(out.Jobs) == in.Limit || bytes >= schedule.PageBytes {
			break
		}
	}
	return out, v.Err()
}

// state is what is told of a job. What is next by the store's clock is put as the wall clock would.
func (m *machine) state(key string, c *content, r *run) schedule.State {
	next := r.Next
	if !next.IsZero() && !c.trigger().OnWall() {
		next = m.clock.of(db.Time(next.UnixNano()))
	}
	return schedule.State{Job: c.job(name(key)), Next: next, Fired: r.Fired, Last: r.Last}
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
