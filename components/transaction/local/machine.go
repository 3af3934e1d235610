package local

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
)

func init() { store.Register("transaction", open) }

// machine has, in the process that owns the store, the transactions of all components of all sidecars, and says which session drives each.
// Giving one to a session, changing it and writing what a session says are updates, which run one after the other: so an epoch is
// checked and a record written in one step.
type machine struct {
	ctx   context.Context
	space *db.Space
	log   *slog.Logger
	tasks sync.WaitGroup
	wake  chan struct{} // of hand: there is something to give away

	mu       sync.Mutex
	all      map[string]*entry   // those that have not ended, by key
	moving   map[string]int      // updates under way that give them to somebody, by key
	apps     map[string]*app     // by C/NAMESPACE/APP/
	sessions map[uint64]*session // by their names
	named    uint64              // sessions that there were
	counts   map[string]*tally   // by C/NAMESPACE/APP/
	open     map[string]int      // transactions that have not ended, by component
}

// entry is a transaction that has not ended.
type entry struct {
	key      string
	session  *session // that drives it; nil: none
	epoch    uint64   // what it is to name when it writes
	revision uint64   // of what it wrote last
	state    transaction.State
	began    time.Time
	attempts int
	keep     time.Duration // how long it is kept when it has ended; of one that was given to a session
	fresh    bool          // nobody has driven it yet
	ended    chan struct{} // closed when it has
}

// app is an application with sessions, or with transactions that wait for one.
type app struct {
	sessions []*session
	free     map[string]*entry
}

type tally struct{ states map[transaction.State]int64 }

func open(ctx context.Context, space *db.Space, log *slog.Logger) (store.Machine, error) {
	m := &machine{ctx: ctx, space: space, log: log, wake: make(chan struct{}, 1), all: map[string]*entry{}, moving: map[string]int{}, apps: map[string]*app{},
		sessions: map[uint64]*session{}, counts: map[string]*tally{}, open: map[string]int{}}
	if err := m.recover(); err != nil {
		return nil, err
	}
	m.tasks.Go(m.hand)
	m.tasks.Go(m.sweep)
	return m, nil
}

func (m *machine) Close() { m.tasks.Wait() }

func (m *machine) Handlers(mux *store.Mux) {
	beginCall.Handle(mux, m.begin)
	registerCall.Handle(mux, m.register)
	decideCall.Handle(mux, m.decide)
	getCall.Handle(mux, m.get)
	listCall.Handle(mux, m.list)
	countCall.Handle(mux, m.count)
	writeCall.Handle(mux, m.write)
	waitCall.Handle(mux, m.wait)
	driveCall.Handle(mux, m.drive)
}

// recover learns what has not ended. What cannot be read is told to who asks for it, and not driven.
func (m *machine) recover() error {
	v := m.space.View()
	defer v.Close()
	for raw, value := range v.Scan([]byte("r"), db.After([]byte("r"))) {
		key := string(raw[1:])
		var r run
		if err := decode(key, value, &r); err != nil {
			m.log.Error("a transaction is not driven", "op", "drive", "gid", name(key), "err", err)
			continue
		}
		m.mu.Lock()
		if e := m.seen(key, &r); e != nil {
			m.free(e)
		}
		m.mu.Unlock()
	}
	return v.Err()
}

// seen takes in how a transaction is. m.mu is held, as in all that follows.
func (m *machine) seen(key string, r *run) *entry {
	t := m.counts[application(key)]
	if t == nil {
		t = &tally{states: map[transaction.State]int64{}}
		m.counts[application(key)] = t
	}
	e := m.all[key]
	if e != nil {
		t.states[e.state]--
	}
	t.states[r.State]++
	switch {
	case r.State.Final():
		if e != nil {
			m.unplace(e)
			close(e.ended)
			delete(m.all, key)
			m.open[componentOf(key)]--
		}
		return nil
	case e == nil:
		e = &entry{key: key, ended: make(chan struct{})}
		m.all[key] = e
		m.open[componentOf(key)]++
	}
	e.state, e.began = r.State, r.Began
	e.attempts = (&tx{run: *r}).most()
	return e
}

func (m *machine) app(key string) *app {
	a := m.apps[application(key)]
	if a == nil {
		a = &app{free: map[string]*entry{}}
		m.apps[application(key)] = a
	}
	return a
}

// free has a transaction wait for a session.
func (m *machine) free(e *entry) {
	m.unplace(e)
	a := m.app(e.key)
	a.free[e.key] = e
	if len(a.sessions) > 0 {
		m.stir()
	}
}

func (m *machine) stir() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// unplace takes a transaction from whoever has it.
func (m *machine) unplace(e *entry) {
	if e.session != nil {
		delete(e.session.has, e.key)
		e.session = nil
	}
	e.epoch = 0
	delete(m.app(e.key).free, e.key)
}

// give writes a transaction, if it is to be, and has it driven anew: by the session that is asked for, the one that had it, or another one.
func (m *machine) give(w *db.Tx, t *tx, write bool, wanted uint64) error {
	if write {
		if err := m.put(w, t); err != nil {
			return err
		}
	}
	epoch, given := w.NextID(), false
	m.mu.Lock()
	if was := m.all[t.key]; was != nil {
		was.epoch = 0 // what its session writes from now on is of before
	}
	m.moving[t.key]++
	m.mu.Unlock()
	w.Then(func() {
		given = true
		m.mu.Lock()
		defer m.mu.Unlock()
		m.moved(t.key)
		before := m.all[t.key]
		var had *session
		if before != nil {
			had = before.session
		}
		e := m.seen(t.key, &t.run)
		if e == nil {
			if had != nil {
				had.push(work{Key: t.key, Run: t.run})
			}
			return
		}
		if m.moving[t.key] > 0 { // by then it is otherwise, and what a session made of this would be written over that
			e.fresh = e.fresh || before == nil
			return
		}
		to := m.sessions[wanted]
		if to == nil || to.app != m.app(t.key) {
			to = had
		}
		if to == nil {
			to = m.app(t.key).least()
		}
		if to == nil {
			m.free(e)
			e.fresh = e.fresh || before == nil
			return
		}
		m.unplace(e)
		e.fresh = false
		e.session, e.epoch, e.revision, e.keep = to, epoch, 0, t.Retention
		to.has[e.key] = e
		to.push(work{Key: t.key, Epoch: epoch, Content: t.content, Run: t.run})
	})
	w.Finally(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if given {
			return
		}
		m.moved(t.key)
		if e := m.all[t.key]; e != nil && e.epoch == 0 && m.moving[t.key] == 0 { // it is as it was
			m.free(e)
		}
	})
	return nil
}

func (m *machine) moved(key string) {
	if m.moving[key]--; m.moving[key] == 0 {
		delete(m.moving, key)
	}
}

// put writes the records of a transaction. What is final is found again when it is to be forgotten.
func (m *machine) put(w *db.Tx, t *tx) error {
	if err := put(w, contentKey(t.key), &t.content); err != nil {
		return err
	}
	return m.putRun(w, t.key, &t.run, t.Retention)
}

func (m *machine) putRun(w *db.Tx, key string, r *run, keep time.Duration) error {
	if r.State.Final() && r.Over == 0 {
		r.Over, r.Ended = w.Now().Add(keep), m.space.Wall().UTC()
		w.Set(overKey(r.Over, key), nil)
	}
	return put(w, runKey(key), r)
}

func (m *machine) begin(ctx context.Context, in beginIn) (out beginOut, err error) {
	err = m.space.Update(ctx, in.Durability, func(w *db.Tx) error {
		there, ok, err := find(w, in.Key)
		switch {
		case err != nil:
			return err
		case ok && !there.Same(&in.Content.Content):
			return transaction.Exists()
		case ok:
			out = beginOut{Info: there.info(w.Now(), true)}
			return nil
		}
		m.mu.Lock()
		crowded := in.Max > 0 && m.open[componentOf(in.Key)] >= in.Max
		m.mu.Unlock()
		if crowded {
			return transaction.TooMany(in.Max)
		}
		t := begin(in.Key, in.Content, w.Now(), m.space.Wall().UTC())
		out = beginOut{t.info(w.Now(), true), true}
		return m.give(w, t, true, in.Session)
	})
	failpoint.Hit("local.owner", "begin")
	return out, err
}

// change changes a transaction that somebody outside wants to be otherwise. What it answers is how it is then.
func (m *machine) change(ctx context.Context, dur db.Durability, key string, edit func(*tx) (bool, error)) (out decideOut, err error) {
	err = m.space.Update(ctx, dur, func(w *db.Tx) error {
		t, ok, err := find(w, key)
		if err := notFound(ok, err); err != nil {
			return err
		}
		t.doubt()
		if out.Changed, err = edit(t); err == nil && out.Changed {
			err = m.give(w, t, true, 0)
		}
		out.Info = t.info(w.Now(), true)
		return err
	})
	return out, err
}

func (m *machine) register(ctx context.Context, in registerIn) (struct{}, error) {
	_, err := m.change(ctx, in.Durability, in.Key, func(t *tx) (bool, error) {
		if in.Branch != nil {
			return t.register(*in.Branch)
		}
		i := t.place(in.Tried)
		if i < 0 || t.State != transaction.Prepared {
			return false, transaction.Late("note a try", t.State)
		}
		was := t.run.Branches[i].Forward
		t.run.Branches[i].Forward = done
		return was != done, nil
	})
	failpoint.Hit("local.owner", "register")
	return struct{}{}, err
}

func (m *machine) decide(ctx context.Context, in decideIn) (decideOut, error) {
	out, err := m.change(ctx, in.Durability, in.Key, func(t *tx) (bool, error) { return t.decide(in.Decision) })
	failpoint.Hit("local.owner", "decide")
	return out, err
}

// write takes what a session says of a transaction that it drives. One that does not drive it any more is refused.
func (m *machine) write(ctx context.Context, in writeIn) (struct{}, error) {
	err := m.space.Update(ctx, in.Durability, func(w *db.Tx) error {
		m.mu.Lock()
		e := m.all[in.Key]
		ours := e != nil && e.epoch == in.Epoch && in.Epoch != 0
		stale := ours && in.Revision <= e.revision
		keep := time.Duration(0)
		if ours && !stale {
			e.revision, keep = in.Revision, e.keep
		}
		m.mu.Unlock()
		switch {
		case !ours:
			return errLease
		case stale:
			return nil
		}
		if err := m.putRun(w, in.Key, &in.Run, keep); err != nil {
			return err
		}
		w.Then(func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.seen(in.Key, &in.Run)
		})
		return nil
	})
	failpoint.Hit("local.owner", "write")
	return struct{}{}, err
}

func (m *machine) get(_ context.Context, in getIn) (transaction.Info, error) {
	v := m.space.View()
	defer v.Close()
	t, ok, err := find(v, in.Key)
	if err := notFound(ok, err); err != nil {
		return transaction.Info{}, err
	}
	return t.info(m.space.Now(), true), nil
}

// wait answers once, when the transaction has ended.
func (m *machine) wait(ctx context.Context, peer store.Peer[getIn, transaction.Info]) error {
	in, err := peer.Recv()
	if err != nil {
		return err
	}
	m.mu.Lock()
	e := m.all[in.Key]
	m.mu.Unlock()
	return store.Listen(ctx, peer, nil, func(ctx context.Context) error {
		if e != nil {
			select {
			case <-e.ended:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		info, err := m.get(ctx, in)
		if err == nil && !info.State.Final() {
			err = errors.Join(components.ErrUnavailable, errors.New("the transaction cannot be driven")) // its records cannot be read
		}
		if err != nil {
			return err
		}
		return peer.Send(info)
	})
}
