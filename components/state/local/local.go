// Package local keeps state in the local store: one durable folder that all sidecars of a machine with the same data folder
// share, and nothing else to install.
//
// What was read of late is in the memory of the process that owns the store, up to 32 MiB of it.
//
// # Records
//
// In the store's space "state", C being the component's name:
//
//	v C / NAMESPACE/APP/KEY                          an item: head, content type, metadata, value
//	f C / LOCK-COMPONENT NUL NAMESPACE/APP/LOCK      the newest token seen of a lock: head, token
//	b C / NAMESPACE/APP/GID NUL BRANCH NUL OP        a call of a branch: head, and who claimed it: itself (1) or what takes it back (2)
//	i C / NAMESPACE/APP/KEY                          an idempotency key: head, digest, outcome, versions
//	x DEADLINE RECORD-KEY                            an index of what will expire, without values
//
// Each record but those of the index begins with a head of 21 bytes: the format, 1; the deadline in the store's time, 0 for none;
// and the version, an id of the store with four bytes that each owner of the store draws, so that a version does not come
// back even where an older copy of the store is restored. Numbers are big-endian; in what follows lengths are varints.
package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/state"
)

func init() {
	components.Register(state.Drivers, "local", Options{Durability: string(db.Disk), Idempotency: 24 * time.Hour, Barriers: 7 * 24 * time.Hour}, Open)
}

// Options of the driver.
type Options struct {
	Durability  string        `yaml:"durability" doc:"when a write is acknowledged: disk, once it is synced; os, once the system has it, which a loss of power may undo"`
	Idempotency time.Duration `yaml:"idempotency" doc:"how long an idempotency key gives the first answer again"`
	Barriers    time.Duration `yaml:"barriers" doc:"how long the calls of a transaction's branches are remembered"`
	Fences      time.Duration `yaml:"fences" doc:"how long the newest token of a lock is remembered after its last write; 0: for ever"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{store.CheckDurability(o.Durability)}
	for _, d := range []struct {
		name string
		is   time.Duration
		none bool // 0 is allowed
	}{{"idempotency", o.Idempotency, false}, {"barriers", o.Barriers, false}, {"fences", o.Fences, true}} {
		if d.is < 0 || d.is == 0 && !d.none || d.is > state.MaxTTL {
			faults = append(faults, fmt.Errorf("%s: %s is not a time that records can be kept for", d.name, d.is))
		}
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- Shared by the sidecars of a machine that have the same data folder. One of them has the files open and serves the others; when it goes another takes over.
- An acknowledged write is on the disk, and survives the loss of power; with ` + "`durability: os`" + ` it survives the end of any process, but not that of the machine.
- Reads see every write that was acknowledged before they began, whoever made it. A transaction is seen whole or not at all, by ` + "`GetMany`" + ` and by each page of a list, too.
- A version never comes back: not after a delete, an expiry or a restart, and not when an older copy of the store is restored.
- Times to live are counted on a clock that does not jump when the machine's time is set, and goes on while no sidecar runs. Expired items are gone at once; their room is taken back within seconds.
- Fences, barriers and idempotency keys are decided in one step with the write, and kept as durably.`
}

// driver asks the machine of the store, wherever that is.
type driver struct {
	store.Client
	options Options
	name    string // of the component, and a slash
}

var (
	_ state.ManyGetter = (*driver)(nil)
	_ state.Peeker     = (*driver)(nil)

	_ state.LaterTransactor = (*driver)(nil)
	_ components.Closer     = (*driver)(nil)
	_ components.Checker    = (*driver)(nil)
)

// Open joins the store. It must be closed.
func Open(ctx context.Context, env components.Env, o Options) (state.Driver, error) {
	link, err := store.Join(ctx, env)
	if err != nil {
		return nil, err
	}
	return &driver{Client: store.Client{Link: link}, options: o, name: env.ID.Name + "/"}, nil
}
