// Package store is the local store: one durable folder that all sidecars of a machine share, behind every driver called local.
//
// One process at a time owns the files. Each capability has a Machine there, which alone decides and writes; drivers, in the same
// process or in another, call it through a Link and need not know where it is.
package store

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// Machine is one capability's part of the store, in the process that owns it. The space is its own. Its handlers run
// concurrently. Close ends what it does in the background; the handlers have ended by then.
type Machine interface {
	Handlers(*Mux)
	Close()
}

// Opener makes the machine of a capability when this process has become the owner, and recovers what it needs to know before
// anybody calls it. ctx ends when the store does.
type Opener func(ctx context.Context, space *db.Space, log *slog.Logger) (Machine, error)

var openers = map[string]Opener{}

// Register adds a machine, in an init function: an owner runs all of them, since its clients may use capabilities that
// it does not. The name, of [a-z]+, is that of its space in the files. A name that is taken panics.
func Register(name string, open Opener) {
	if _, taken := openers[name]; taken {
		panic("store: machine " + name + " is registered twice")
	}
	openers[name] = open
}

// machines are those of one owner.
type machines struct {
	db    *db.DB
	all   []Machine
	mux   Mux
	end   context.CancelFunc
	since time.Time
	leave func() // closes them and what is below them
}

func openMachines(d *db.DB, log *slog.Logger) (*machines, error) {
	ctx, end := context.WithCancel(context.Background())
	m := &machines{db: d, end: end, since: time.Now().UTC()}
	for _, name := range slices.Sorted(maps.Keys(openers)) {
		one, err := openers[name](ctx, d.Space(name), log.With("machine", name))
		if err != nil {
			m.close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		m.all = append(m.all, one)
		one.Handlers(&m.mux)
	}
	m.handle()
	return m, nil
}

func (m *machines) close() {
	m.end()
	for _, one := range m.all {
		one.Close()
	}
}
