package local

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/state"
)

func init() { store.Register("state", openMachine) }

// machine decides, in the process that owns the store, for all components of all sidecars.
type machine struct {
	space   *db.Space
	log     *slog.Logger
	salt    uint32 // of the versions it gives: see the package comment
	hot     *hot
	sweeper sync.WaitGroup
}

func newMachine(space *db.Space, log *slog.Logger) *machine {
	return &machine{space: space, log: log, salt: rand.Uint32(), hot: newHot()}
}

// openMachine has nothing to recover: all that it knows is in the store.
func openMachine(ctx context.Context, space *db.Space, log *slog.Logger) (store.Machine, error) {
	m := newMachine(space, log)
	m.sweeper.Go(func() { m.sweep(ctx) })
	return m, nil
}

func (m *machine) Close() { m.sweeper.Wait() }

func (m *machine) Handlers(mux *store.Mux) {
	getCall.Handle(mux, m.get)
	peekCall.Handle(mux, m.peek)
	getManyCall.Handle(mux, m.getMany)
	listCall.Handle(mux, m.list)
	transactCall.Handle(mux, m.transact)
	transactCall.HandleLater(mux, m.transactLater)
	repeatCall.Handle(mux, m.transact)
}

// get looks into what is hot first.
func (m *machine) get(_ context.Context, in getIn) (found, error) {
	shard := m.hot.shard(in.Key)
	record, seen := shard.get(in.Key)
	if record != nil {
		return m.live(in.Key, record, true)
	}
	v := m.space.View()
	defer v.Close()
	f, err := m.find(v, in.Key)
	if f.Record != nil {
		shard.fill(in.Key, f.Record, seen)
	}
	return f, err
}

// peek answers what is hot and nothing else. It does not wait.
func (m *machine) peek(_ context.Context, in getIn) (found, error) {
	record, _ := m.hot.shard(in.Key).get(in.Key)
	if record == nil {
		return found{}, nil
	}
	return m.live(in.Key, record, true)
}

// find answers a copy of a record that has not expired.
func (m *machine) find(v *db.View, key []byte) (f found, err error) {
	there, failed := v.Look(key, func(record []byte) { f, err = m.live(key, record, true) })
	if failed != nil {
		return found{}, failed
	}
	if !there {
		return found{}, nil
	}
	return f, err
}

// live is what can be answered of a record that is lent.
func (m *machine) live(key, record []byte, value bool) (found, error) {
	h, err := headOf(record)
	if err != nil {
		return found{}, unreadable(key, err)
	}
	var now db.Time
	if h.deadline != 0 { // to look at the clock costs as much as all the rest
		now = m.space.Now()
	}
	if h.expired(now) {
		return found{}, nil
	}
	if !value {
		record = withoutValue(record)
	}
	return found{Record: append(make([]byte, 0, len(record)), record...), TTL: h.left(now)}, nil
}

func (m *machine) getMany(ctx context.Context, in getManyIn) (out getManyOut, err error) {
	v := m.space.View()
	defer v.Close()
	out.Items = make([]found, len(in.Keys))
	bytes := 0
	for i, key := range in.Keys {
		if err := ctx.Err(); err != nil {
			return getManyOut{}, err
		}
		out.Items[i], err = m.find(v, key)
		if errors.Is(err, components.ErrDamaged) {
			out.Items[i].Fault, err = err.Error(), nil
		}
		if err != nil {
			return getManyOut{}, err
		}
		if bytes += len(out.Items[i].Record); bytes > state.ManyBytes {
			return getManyOut{}, state.TooMuch()
		}
	}
	return out, nil
}

func (m *machine) list(ctx context.Context, in listIn) (out listOut, err error) {
	v := m.space.View()
	defer v.Close()
	from := in.Prefix
	if len(in.After) > 0 && string(in.After) >= string(from) {
		from = append(append(make([]byte, 0, len(in.After)+1), in.After...), 0)
	}
	bytes := 0
	for key, record := range v.Scan(from, db.After(in.Prefix)) {
		if err := ctx.Err(); err != nil {
			return listOut{}, err
		}
		f, err := m.live(key, record, in.Values)
		if err != nil {
			return listOut{}, err
		}
		if f.Record == nil {
			continue
		}
		bytes += len(key) + len(f.Record)
		if out.More = len(out.Entries) == in.Limit || len(out.Entries) > 0 && bytes > state.PageBytes; out.More {
			break
		}
		out.Entries = append(out.Entries, listed{append([]byte(nil), key...), f})
	}
	return out, v.Err()
}
