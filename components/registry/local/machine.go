package local

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

func init() { store.Register("registry", openMachine) }

// grace is how long records are kept whose holder is not connected, after another process has become the owner.
const grace = 5 * time.Second

// What driver and machine say to each other.
var (
	registerCall   = store.Unary[registerIn, struct{}]{Name: "registry/register", Safe: true}
	deregisterCall = store.Unary[deregisterIn, struct{}]{Name: "registry/deregister", Safe: true}
	holdCall       = store.Bidi[holdIn, struct{}]{Name: "registry/hold"}
	watchCall      = store.Bidi[watchIn, watchOut]{Name: "registry/watch"}
)

type registerIn struct {
	Component, Holder string
	Record            registry.Record
}

type deregisterIn struct {
	Component, Holder string
	Service           registry.Service
	Address           string
}

// holdIn comes once: all that the holder has. The answer says that it is written down.
type holdIn struct {
	Component, Holder string
	Records           []registry.Record
}

type watchIn struct {
	Component string
	Service   registry.Service
}

type watchOut struct{ Records []registry.Record }

// entry is a record with its holder. Of those for one address the one that was made last counts.
type entry struct {
	Weight   int               `cbor:"1,keyasint,omitempty"`
	Metadata map[string]string `cbor:"2,keyasint,omitempty"`
	Since    uint64            `cbor:"3,keyasint"` // grows with each; 0 for one that cannot be read, which is in no list
}

// key is where an entry is: in the store's order those of a service are together. No part holds a NUL.
type key struct {
	component string
	service   registry.Service
	address   string
	holder    string
}

func (k key) bytes() []byte {
	return []byte(strings.Join([]string{k.component, k.service.Namespace, k.service.Group, k.service.Name, k.address, k.holder}, "\x00"))
}

func parse(raw []byte) (key, error) {
	p := strings.Split(string(raw), "\x00")
	if len(p) != 6 {
		return key{}, store.Unreadable("service", string(raw), errors.New("that is no key of one"))
	}
	return key{p[0], registry.Service{Namespace: p[1], Group: p[2], Name: p[3]}, p[4], p[5]}, nil
}

// list is what watchers of a component's service are told of.
type list struct {
	component string
	service   registry.Service
}

// machine keeps the lists, in the process that owns the store, for all components of all sidecars.
type machine struct {
	ctx   context.Context
	space *db.Space
	log   *slog.Logger
	loop  sync.WaitGroup
	wake  chan struct{} // of the loop: somebody is missing

	mu       sync.Mutex
	entries  map[list]map[key]entry // what is on the disk
	holders  map[string]int         // their connections
	missing  map[string]db.Time     // holders with entries but no connection, and when those go
	watchers map[list]map[chan struct{}]struct{}
}

func openMachine(ctx context.Context, space *db.Space, log *slog.Logger) (store.Machine, error) {
	m := &machine{ctx: ctx, space: space, log: log, wake: make(chan struct{}, 1), entries: map[list]map[key]entry{},
		holders: map[string]int{}, missing: map[string]db.Time{}, watchers: map[list]map[chan struct{}]struct{}{}}
	if err := m.recover(); err != nil {
		return nil, err
	}
	m.loop.Go(m.dropMissing)
	return m, nil
}

func (m *machine) Close() { m.loop.Wait() }

func (m *machine) Handlers(mux *store.Mux) {
	registerCall.Handle(mux, m.register)
	deregisterCall.Handle(mux, m.deregister)
	holdCall.Handle(mux, m.hold)
	watchCall.Handle(mux, m.watch)
}

// recover learns what is there. What cannot be read is passed over: its holder writes it anew when it comes.
func (m *machine) recover() error {
	v := m.space.View()
	defer v.Close()
	for raw, value := range v.Scan(nil, nil) {
		k, err := parse(raw)
		if err != nil {
			m.unread(err)
			continue
		}
		e, err := decode(k, value)
		if err != nil {
			m.unread(err)
		}
		m.set(k, &e)
	}
	return v.Err()
}

func (m *machine) unread(err error) {
	m.log.Error("a record is not listed", "op", "recover", "err", err)
}

func decode(k key, raw []byte) (e entry, err error) {
	if err := store.DecodeRecord(raw, &e); err != nil {
		return entry{}, store.Unreadable("service", k.service.Name+" at "+k.address, err)
	}
	return e, nil
}

// set takes in what is on the disk; nil: nothing is.
func (m *machine) set(k key, e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := list{k.component, k.service}
	if e == nil {
		delete(m.entries[l], k)
		if len(m.entries[l]) == 0 {
			delete(m.entries, l)
		}
	} else {
		if m.entries[l] == nil {
			m.entries[l] = map[key]entry{}
		}
		m.entries[l][k] = *e
		m.miss(k.holder)
	}
	for w := range m.watchers[l] {
		stir(w)
	}
}

// miss begins to wait for a holder that has no connection. m.mu is held.
func (m *machine) miss(holder string) {
	if _, waits := m.missing[holder]; !waits && m.holders[holder] == 0 {
		m.missing[holder] = m.space.Now().Add(grace)
		stir(m.wake)
	}
}

func stir(w chan struct{}) {
	select {
	case w <- struct{}{}:
	default:
	}
}

func (m *machine) register(ctx context.Context, in registerIn) (struct{}, error) {
	return struct{}{}, m.write(ctx, in.Component, in.Holder, []registry.Record{in.Record})
}

// write writes what differs from what is there.
func (m *machine) write(ctx context.Context, component, holder string, records []registry.Record) error {
	return m.space.Update(ctx, db.OS, func(tx *db.Tx) error {
		for _, r := range records {
			k := key{component, r.Service, r.Address, holder}
			raw, ok, err := tx.Get(k.bytes())
			if err != nil {
				return err
			}
			if ok {
				there, err := decode(k, raw)
				if err == nil && there.Weight == r.Weight && maps.Equal(there.Metadata, r.Metadata) {
					continue
				}
			}
			e := entry{Weight: r.Weight, Metadata: maps.Clone(r.Metadata), Since: tx.NextID()}
			if raw, err = store.EncodeRecord(&e); err != nil {
				return err
			}
			tx.Set(k.bytes(), raw)
			tx.Then(func() { m.set(k, &e) })
		}
		return nil
	})
}

func (m *machine) deregister(ctx context.Context, in deregisterIn) (struct{}, error) {
	return struct{}{}, m.remove(ctx, []key{{in.Component, in.Service, in.Address, in.Holder}})
}

func (m *machine) remove(ctx context.Context, all []key) error {
	if len(all) == 0 {
		return nil
	}
	return m.space.Update(ctx, db.OS, func(tx *db.Tx) error {
		for _, k := range all {
			tx.Delete(k.bytes())
			tx.Then(func() { m.set(k, nil) })
		}
		return nil
	})
}

// of are the keys of a holder's entries.
func (m *machine) of(holder string) (all []key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, entries := range m.entries {
		for k := range entries {
			if k.holder == holder {
				all = append(all, k)
			}
		}
	}
	return all
}

// records are those of a service: one an address.
func (m *machine) records(l list) []registry.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	newest := map[string]entry{}
	for k, e := range m.entries[l] {
		if e.Since > newest[k.address].Since {
			newest[k.address] = e
		}
	}
	all := make([]registry.Record, 0, len(newest))
	for _, address := range slices.Sorted(maps.Keys(newest)) {
		e := newest[address]
		all = append(all, registry.Record{Service: l.service, Address: address, Weight: e.Weight, Metadata: maps.Clone(e.Metadata)})
	}
	return all
}
