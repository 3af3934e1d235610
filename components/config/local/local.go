// Package local keeps configuration in the local store: one durable folder that all sidecars of a machine with the same data folder
// share, and nothing else to install.
//
// # Records
//
// In the store's space "config", under C/NAMESPACE/KEY, C being the component's name: the byte 1, for the format, and a map of CBOR,
// see record.
package local

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

func init() {
	components.Register(config.Drivers, "local", Options{Durability: string(db.Disk)}, Open)
}

// Options of the driver.
type Options struct {
	Durability string `yaml:"durability" doc:"when a write is acknowledged: disk, once it is synced; os, once the system has it, which a loss of power may undo"`
}

// Validate implements components.Validator.
func (o Options) Validate() error { return store.CheckDurability(o.Durability) }

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- Shared by the sidecars of a machine that have the same data folder. One of them has the files open and serves the others; when it goes another takes over.
- An acknowledged write is on the disk, and survives the loss of power; with ` + "`durability: os`" + ` it survives the end of any process, but not that of the machine.
- Reads see every write that was acknowledged before they began. A write with a version happens only at that version, in one step.
- A version never comes back: not after a delete or a restart, and not when an older copy of the store is restored.
- A watch is told of a change as soon as it is safe, and goes on by itself when another process takes the store over; then it is told all that is there.`
}

// driver asks the machine of the store, wherever that is.
type driver struct {
	store.Client
	options Options
	name    string // of the component, and a slash
	ended   context.Context
	end     context.CancelFunc
}

var (
	_ config.Setter      = (*driver)(nil)
	_ config.Deleter     = (*driver)(nil)
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
)

// Open joins the store. It must be closed.
func Open(ctx context.Context, env components.Env, o Options) (config.Driver, error) {
	link, err := store.Join(ctx, env)
	if err != nil {
		return nil, err
	}
	d := &driver{Client: store.Client{Link: link}, options: o, name: env.ID.Name + "/"}
	d.ended, d.end = context.WithCancel(context.Background())
	return d, nil
}

// Close leaves the store, and ends the watches.
func (d *driver) Close(ctx context.Context) error {
	d.end()
	return d.Client.Close(ctx)
}

func (d *driver) Get(ctx context.Context, key string) (config.Item, error) {
	out, err := getCall.Call(ctx, d.Link, keyIn{d.name + key})
	if err == nil && len(out.Items) == 0 {
		err = components.ErrNotFound
	}
	if err != nil {
		return config.Item{}, err
	}
	return d.own(out.Items)[0], nil
}

// own are items by the keys that the driver's callers know.
func (d *driver) own(items []config.Item) []config.Item {
	for i := range items {
		items[i].Key = items[i].Key[len(d.name):]
	}
	return items
}

func (d *driver) List(ctx context.Context, prefix, after string, limit int) ([]config.Item, error) {
	in := listIn{Prefix: d.name + prefix, Limit: limit}
	if after != "" {
		in.After = d.name + after
	}
	out, err := listCall.Call(ctx, d.Link, in)
	return d.own(out.Items), err
}

func (d *driver) Set(ctx context.Context, item config.Item, ifVersion string) (version string, err error) {
	item.Key = d.name + item.Key
	return setCall.Call(ctx, d.Link, setIn{item, ifVersion, d.options.Durability})
}

func (d *driver) Delete(ctx context.Context, key string) error {
	_, err := deleteCall.Call(ctx, d.Link, deleteIn{d.name + key, d.options.Durability})
	return err
}

// Watch begins anew, with the whole state, whenever the owner of the store has changed.
func (d *driver) Watch(ctx context.Context, sel config.Selection, report func([]config.Change, bool) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.ended, func() { cancel(fmt.Errorf("%w: the component is closed", components.ErrUnavailable)) })()
	in := watchIn{Keys: d.named(sel.Keys), Prefixes: d.named(sel.Prefixes)}
	return watchCall.Follow(ctx, d.Link, in, func() func(watchOut) (bool, error) {
		var initial []config.Change
		return func(out watchOut) (whole bool, err error) {
			changes := d.changes(out)
			if out.Initial {
				if initial = append(initial, changes...); out.More {
					return false, nil
				}
				changes, initial = initial, nil
			}
			return true, report(changes, out.Initial)
		}
	})
}

func (d *driver) named(all []string) []string {
	full := make([]string, len(all))
	for i, s := range all {
		full[i] = d.name + s
	}
	return full
}

func (d *driver) changes(out watchOut) []config.Change {
	changes := make([]config.Change, 0, len(out.Items)+len(out.Gone))
	for _, item := range d.own(out.Items) {
		changes = append(changes, config.Change{Key: item.Key, Item: item})
	}
	for _, key := range out.Gone {
		changes = append(changes, config.Change{Key: key[len(d.name):], Deleted: true})
	}
	return changes
}
