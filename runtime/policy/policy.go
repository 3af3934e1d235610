// Package policy keeps the mesh's policies current: those of the sidecar's file and, before them, those of a key of a configuration
// component, which many sidecars follow. What stands there is taken over as a whole, or refused as a whole and the last that was good stays; it
// stays, too, while the component is away, and over a restart.
package policy

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	conf "github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// Options say what a Keeper keeps, and where from.
type Options struct {
	Table  *mesh.Table
	Caller components.Caller                    // whose namespace the key is of, and the services without one
	Own    mesh.Policies                        // those of the sidecar's file
	From   config.PoliciesFrom                  // without a component Own is all there is
	Config func(name string) (Component, error) // a configuration component of that name
	File   string                               // keeps the last good text for a start while the component is away
	Logger *slog.Logger
}

// Component is the front of a configuration component, as far as it is needed.
type Component interface {
	Watch(ctx context.Context, caller components.Caller, sel conf.Selection, send func(conf.Message) error) error
}

// State is how things are, for operators.
type State struct {
	mesh.Origin
	Refused string // what is wrong with the newest text, which is not in force; empty: it is
	Away    string // why the component cannot be asked now
	Changes Changes
}

// Changes counts the texts that were taken over since the start, and those that were not.
type Changes struct{ Applied, Refused int }

// Keeper keeps the policies in a Table. Safe for concurrent use.
type Keeper struct {
	opts  Options
	stop  context.CancelFunc
	ended sync.WaitGroup
	said  chan struct{} // closed when the component has answered
	once  sync.Once

	mu      sync.Mutex
	own     mesh.Policies
	text    []byte // in force before own; nil: none
	origin  mesh.Origin
	refused string // what is wrong with the newest text
	bad     string // and its version
	away    string
	changes Changes
}

// Open puts the policies in force that are known, and begins to follow the component. It fails if those of the file cannot be.
func Open(o Options) (*Keeper, error) {
	k := &Keeper{opts: o, own: o.Own, said: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	if err := k.recall(); err != nil {
		stop()
		return nil, err
	}
	if o.From.Component == "" {
		k.answered()
	} else {
		k.ended.Go(func() { k.follow(ctx) })
	}
	return k, nil
}

// Close ends that; the policies stay as they are.
func (k *Keeper) Close() {
	k.stop()
	k.ended.Wait()
}

// Wait waits for the first answer of the component, until ctx ends, if nothing is known of an earlier time.
func (k *Keeper) Wait(ctx context.Context) {
	k.mu.Lock()
	known := k.text != nil
	k.mu.Unlock()
	if known {
		return
	}
	select {
	case <-k.said:
	case <-ctx.Done():
	}
}

func (k *Keeper) answered() { k.once.Do(func() { close(k.said) }) }

// State is how things are now.
func (k *Keeper) State() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return State{Origin: k.origin, Refused: k.refused, Away: k.away, Changes: k.changes}
}

// Rebase takes over other policies of the file, below what the component says; if both do not fit together it changes nothing.
func (k *Keeper) Rebase(own mesh.Policies) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.own
	k.own = own
	err := k.put(k.text, k.origin)
	if err != nil {
		k.own = before
	}
	return err
}

// put has a text in force, nil: none, and what the file says below it; or changes nothing. k.mu is held, or k is not shared yet.
func (k *Keeper) put(text []byte, origin mesh.Origin) error {
	p := k.own
	if text != nil {
		var err error
		if p, err = config.ParsePolicies(k.name(), text, k.own); err != nil {
			return err
		}
	}
	p.Origin = origin
	if err := k.opts.Table.Apply(p, k.opts.Caller.Namespace); err != nil {
		return err
	}
	k.text, k.origin = text, origin
	return nil
}

// name is what faults call the text.
func (k *Keeper) name() string {
	return fmt.Sprintf("config %s/%s", k.opts.From.Component, k.opts.From.Key)
}

const (
	firstPause = 50 * time.Millisecond // after a watch that failed
	mostPause  = time.Second
)

// follow watches the key until ctx ends.
func (k *Keeper) follow(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		err := k.watch(ctx, func() { pause = firstPause })
		if ctx.Err() != nil {
			return
		}
		k.lost(err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, mostPause)
	}
}

func (k *Keeper) watch(ctx context.Context, heard func()) error {
	from, err := k.opts.Config(k.opts.From.Component)
	if err != nil {
		return err
	}
	return from.Watch(ctx, k.opts.Caller, conf.Selection{Keys: []string{k.opts.From.Key}}, func(m conf.Message) error {
		heard()
		for _, c := range m.Changes {
			k.take(c)
		}
		k.answered()
		return nil
	})
}

// lost notes why the component cannot be asked.
func (k *Keeper) lost(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if text := err.Error(); text != k.away { // once for each reason, not for each attempt
		k.away = text
		k.opts.Logger.Warn("the mesh's policies cannot be followed: those in force stay", "source", k.name(), "version", k.origin.Version, "err", err)
	}
}

// take takes over what the component says, if it is in order.
func (k *Keeper) take(c conf.Change) {
	k.mu.Lock()
	defer k.mu.Unlock()
	stale := !c.Deleted && c.Item.Stale
	if stale && k.text != nil {
		return // what it remembers is no newer than what is in force
	}
	if k.away = ""; stale {
		k.away = "the component serves what it knew before"
	}
	next := mesh.Origin{Source: k.name(), Version: c.Item.Version, Stale: stale}
	text := c.Item.Value
	if c.Deleted {
		next, text = mesh.Origin{}, nil
	} else if text == nil {
		text = []byte{}
	}
	if next == k.origin && (text == nil) == (k.text == nil) {
		k.refused, k.bad = "", ""
		return
	}
	same := next.Version == k.origin.Version && next.Source == k.origin.Source
	if err := k.put(text, next); err != nil {
		if !same && next.Version != k.bad {
			k.changes.Refused++
			k.opts.Logger.Error("the mesh's policies were refused: those in force stay", "source", k.name(), "version", next.Version,
				"in_force", k.origin.Version, "err", err)
		}
		k.refused, k.bad = err.Error(), next.Version
		return
	}
	k.refused, k.bad = "", ""
	k.keep()
	if same {
		return // it is only sure now that they are current
	}
	k.changes.Applied++
	if text == nil {
		k.opts.Logger.Info("the mesh's policies are those of the configuration: the key is absent", "source", k.name())
		return
	}
	k.opts.Logger.Info("the mesh's policies were taken over", "source", k.name(), "version", next.Version)
}
