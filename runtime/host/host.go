// Package host runs the configured components: it opens them in the order of their references, tries again in the
// background those that cannot be opened yet, replaces at a reload those that changed, and tells the state of each.
package host

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// Options are what a Host lends its components. Zero durations mean the defaults.
type Options struct {
	Logger  *slog.Logger
	Observe components.Observer
	// Meter answers where a component registers metrics of its own, and how to take them away with it.
	Meter   func(components.ID) (prometheus.Registerer, func())
	DataDir string
	// Secret answers the value behind ${secret:component/key}.
	Secret func(ctx context.Context, component, key string) (string, error)

	RetryMin, RetryMax time.Duration // between attempts to open: 200 ms, growing to 30 s
	CheckEvery         time.Duration // between checks of what is open: 10 s
	CheckSoon          time.Duration // the same while it is failing, or once a call of it has failed: 1 s
	StartGrace         time.Duration // how long a start waits for components that are not required: 500 ms
}

func (o Options) withDefaults() Options {
	o.RetryMin = cmp.Or(o.RetryMin, 200*time.Millisecond)
	o.RetryMax = cmp.Or(o.RetryMax, 30*time.Second)
	o.CheckEvery = cmp.Or(o.CheckEvery, 10*time.Second)
	o.CheckSoon = min(cmp.Or(o.CheckSoon, time.Second), o.CheckEvery)
	o.StartGrace = cmp.Or(o.StartGrace, 500*time.Millisecond)
	return o
}

// Host holds the components of a sidecar. Add says which capabilities there are; then Start, any number of Reloads, Close.
type Host struct {
	opts   Options
	kinds  map[string]kind
	shared *components.Shared

	reloading sync.Mutex // one Start, Reload or Close at a time
	running   bool       // from Start to Close; of whoever holds reloading
	mu        sync.Mutex
	keepers   map[key]*keeper

	failed   chan error      // holds the first
	retiring sync.WaitGroup  // what was replaced and is closed in the background; begun and waited for by holders of reloading
	life     context.Context // ends with Close, or when that must not wait any more
	end      context.CancelFunc
}

type key struct{ capability, name string }

// New makes a Host without components.
func New(o Options) *Host {
	h := &Host{opts: o.withDefaults(), kinds: map[string]kind{}, shared: components.NewShared(), keepers: map[key]*keeper{}, failed: make(chan error, 1)}
	h.life, h.end = context.WithCancel(context.Background())
	return h
}

// kind is a capability without its types.
type kind interface {
	declare(id components.ID, limits components.Limits, observe components.Observer) slot
	open(ctx context.Context, env components.Env, options any) (driver any, err error)
	drop(name string)
	preview(id components.ID, limits components.Limits, driver any) (front any)
}

// slot is a component without its type.
type slot interface {
	set(driverName string, limits components.Limits, driver any) (retired <-chan struct{})
	clear(why error) (retired <-chan struct{})
	fail(why error)
	limit(l components.Limits)
}

// Fronts are the components of one capability by their names.
type Fronts[F any] struct {
	capability string
	mu         sync.Mutex
	byName     atomic.Pointer[map[string]F]
}

// Get finds a component; "" means the one called default. An unknown name is ErrNotFound with the names there are.
func (f *Fronts[F]) Get(name string) (F, error) {
	if name == "" {
		name = "default"
	}
	all := *f.byName.Load()
	front, ok := all[name]
	if !ok {
		have := strings.Join(slices.Sorted(maps.Keys(all)), ", ")
		if have == "" {
			have = "none"
		}
		return front, components.WithReason(fmt.Errorf("%s %q: %w (there are: %s)", f.capability, name, components.ErrNotFound, have),
			components.ReasonComponentNotFound, "capability", f.capability, "component", name)
	}
	return front, nil
}

func (f *Fronts[F]) change(edit func(map[string]F)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := maps.Clone(*f.byName.Load())
	edit(all)
	f.byName.Store(&all)
}

// Add declares a capability: its drivers, and how to make the front of a component.
func Add[D, F any](h *Host, drivers *components.Registry[D], front func(*components.Component[D]) F) *Fronts[F] {
	fronts := &Fronts[F]{capability: drivers.Capability()}
	fronts.byName.Store(&map[string]F{})
	h.kinds[drivers.Capability()] = &kindOf[D, F]{drivers, front, fronts}
	return fronts
}

type kindOf[D, F any] struct {
	drivers *components.Registry[D]
	front   func(*components.Component[D]) F
	fronts  *Fronts[F]
}

// declare makes a component. A front that works in the background begins to.
func (k *kindOf[D, F]) declare(id components.ID, limits components.Limits, observe components.Observer) slot {
	c := components.NewComponent[D](id, limits, observe)
	f := k.front(c)
	if s, ok := any(f).(interface{ Start() }); ok {
		s.Start()
	}
	k.fronts.change(func(all map[string]F) { all[id.Name] = f })
	return slotOf[D]{c}
}

func (k *kindOf[D, F]) open(ctx context.Context, env components.Env, options any) (any, error) {
	return k.drivers.Open(ctx, env.ID.Driver, env, options)
}

// drop takes a component away. A front that works in the background ends that when it is told so.
func (k *kindOf[D, F]) drop(name string) {
	front := (*k.fronts.byName.Load())[name]
	k.fronts.change(func(all map[string]F) { delete(all, name) })
	if c, ok := any(front).(interface{ Close() }); ok {
		c.Close()
	}
}

// preview makes a front that nobody else has, for a driver that is not in use yet.
func (k *kindOf[D, F]) preview(id components.ID, limits components.Limits, driver any) any {
	c := components.NewComponent[D](id, limits, nil)
	c.SetAs(id.Driver, limits, driver.(D))
	return k.front(c)
}

type slotOf[D any] struct{ c *components.Component[D] }

func (s slotOf[D]) set(name string, l components.Limits, driver any) <-chan struct{} {
	return s.c.SetAs(name, l, driver.(D))
}
func (s slotOf[D]) clear(why error) <-chan struct{} { return s.c.Clear(why) }
func (s slotOf[D]) fail(why error)                  { s.c.Fail(why) }
func (s slotOf[D]) limit(l components.Limits)       { s.c.SetLimits(l) }

// State is how a component is doing.
type State struct {
	Name       string `json:"name"`
	Capability string `json:"capability"`
	Driver     string `json:"driver"`
	Required   bool   `json:"required"`
	State      string `json:"state"` // starting, ready or failing
	Error      string `json:"error,omitempty"`
}

// States tells it of all components, sorted by capability and name.
func (h *Host) States() []State {
	h.mu.Lock()
	defer h.mu.Unlock()
	states := make([]State, 0, len(h.keepers))
	for _, k := range h.keepers {
		states = append(states, k.state())
	}
	slices.SortFunc(states, func(a, b State) int {
		return cmp.Or(cmp.Compare(a.Capability, b.Capability), cmp.Compare(a.Name, b.Name))
	})
	return states
}

const secrets = "secret" // the capability whose components others refer to

// ordered puts the secret components that others refer to first.
func ordered(c *config.Config) []config.Component {
	rank := map[string]int{}
	for i, name := range c.SecretsFirst {
		rank[name] = i - len(c.SecretsFirst)
	}
	all := slices.Clone(c.Components)
	slices.SortStableFunc(all, func(a, b config.Component) int { return cmp.Compare(order(a, rank), order(b, rank)) })
	return all
}

func order(c config.Component, rank map[string]int) int {
	if c.Capability != secrets {
		return 0
	}
	return rank[c.Name]
}
