// Package publish keeps an application's services in the central registry: each is announced at the sidecar's own address,
// and only while the application's port answers. What the application asked for through the API is kept on disk, so that
// it outlives a restart of the sidecar; what the configuration declares is not.
//
// A publication is known by its service's name and group, which are what a registry tells apart at one address. Its version
// is not part of that, but for Bolt and Dubbo, whose applications serve several at once: an application that publishes the next version of
// another service takes the place of the one before.
package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
)

// Publication is a service that the application serves on a port of its own.
type Publication struct {
	Service mesh.Service
	Port    int
	Weight  int // 0: 100
	Zone    string
	Labels  map[string]string
	// Itself: the application writes its ecosystem's record by itself, with the sidecar's address, and takes it back by itself.
	Itself bool
	// Ours: in our form alone.
	Ours bool
}

func (p Publication) check() error {
	if p.Port < 1 || p.Port > 65535 {
		return fmt.Errorf("%w: port %d: it is where the application listens, from 1 to 65535", components.ErrInvalid, p.Port)
	}
	return p.provider("127.0.0.1:1", "").Check() // the address is the sidecar's, not the caller's fault
}

const defaultWeight = 100

func (p Publication) weight() int { return cmp.Or(p.Weight, defaultWeight) }

func (p Publication) provider(announce, app string) naming.Provider {
	return naming.Provider{Service: p.Service, App: app, Port: p.Port, Itself: p.Itself, Ours: p.Ours,
		Instance: mesh.Instance{Address: announce, Weight: p.weight(), Zone: p.Zone, Labels: mesh.LabelsOf(p.Labels)}}
}

func same(a, b Publication) bool {
	return a.Service == b.Service && a.Port == b.Port && a.Weight == b.Weight && a.Zone == b.Zone && a.Itself == b.Itself && a.Ours == b.Ours && maps.Equal(a.Labels, b.Labels)
}

// key is what tells publications of one application apart.
type key struct{ name, group, version string }

func keyOf(s mesh.Service) key {
	name, group, version := naming.Apart(s)
	return key{name, group, version}
}

func sorted[V any](all map[key]V) []key {
	return slices.SortedFunc(maps.Keys(all), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.group, b.group), cmp.Compare(a.version, b.version))
	})
}

// Options are what a Publisher needs.
type Options struct {
	// Names are those of the central registry.
	Names naming.Names
	// App is the application's name.
	App string
	// Announce is the address that other sidecars reach this one at.
	Announce string
	// Identity, if set, is the SPIFFE id of this sidecar's certificate, "" while it has none.
	Identity func() string
	// File keeps what the application published; "": nothing is kept.
	File   string
	Logger *slog.Logger
	// Probe is how often the application's port is tried: 500 ms.
	Probe time.Duration
}

// Publisher holds an application's publications. Safe for concurrent use.
type Publisher struct {
	opts Options
	ctx  context.Context // of the keepers: ends with Close
	end  context.CancelFunc
	work sync.WaitGroup // of the keepers

	mu       sync.Mutex
	declared map[key]Publication
	asked    map[key]Publication
	keepers  map[key]*keeper
	gone     bool // withdrawn: nothing is announced any more
	leaving  leaving
	began    time.Time
	called   map[string]*atomic.Int64 // of services that are published, see door

	served atomic.Pointer[served]
}

// New makes a publisher with what was asked of its file before. A damaged file is set aside and logged, and nothing was asked.
func New(o Options) (*Publisher, error) {
	o.Probe = cmp.Or(o.Probe, 500*time.Millisecond)
	asked, found, err := load(o.File)
	if errors.Is(err, errDamaged) {
		aside, e := setAside(o.File)
		if e != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", o.File, err), e)
		}
		o.Logger.Error("kept publications cannot be read and were set aside: the application must publish its services again", "file", o.File, "aside", aside, "err", err)
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("kept publications: %w", err)
	}
	if !found {
		asked = map[key]Publication{}
	}
	p := &Publisher{opts: o, declared: map[key]Publication{}, asked: asked, keepers: map[key]*keeper{}, leaving: leaving{served: map[key]*departure{}},
		began: time.Now()}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.reconcile()
	return p, nil
}

// Declare makes the declared publications those of the configuration. What the application asked for goes before them.
func (p *Publisher) Declare(all []Publication) {
	p.mu.Lock()
	p.declared = map[key]Publication{}
	for _, pub := range all {
		p.declared[keyOf(pub.Service)] = pub
	}
	p.mu.Unlock()
	p.reconcile()
}

// Publish announces a service as soon as its port answers, in place of a publication with the same name and group. It returns
// when the publication is on disk; to ask again for what is there already does nothing. It fails like the registry's front if there is
// no registry that it could ever be announced in.
func (p *Publisher) Publish(_ context.Context, pub Publication) (announced string, err error) {
	if err := pub.check(); err != nil {
		return "", err
	}
	if _, err := p.opts.Names.Registry(); err != nil { // one that is configured and away is waited for, but not one that is not
		return "", err
	}
	err = p.ask(func(asked map[key]Publication) error {
		if port, elsewhere := p.otherPort(pub); elsewhere {
			return fmt.Errorf("%w: service %q is served on port %d already, in another group or version: all of a service need one port",
				components.ErrInvalid, pub.Service.Name, port)
		}
		asked[keyOf(pub.Service)] = pub
		return nil
	})
	if err != nil {
		return "", err
	}
	return p.opts.Announce, nil
}

// otherPort finds another group of pub's service that is on another port. p.mu is held.
func (p *Publisher) otherPort(pub Publication) (port int, found bool) {
	for id := range p.all() {
		if other, _ := p.wanted(id); id.name == pub.Service.Name && id != keyOf(pub.Service) && other.Port != pub.Port {
			return other.Port, true
		}
	}
	return 0, false
}

// Unpublish takes a publication back; that there is none is no error, nor that it is of another version than s names. Without a version s
// means all of them, but of Dubbo, where that is one as well. From then on calls are refused, those of a service that is being left, too.
func (p *Publisher) Unpublish(_ context.Context, s mesh.Service) error {
	return p.ask(func(asked map[key]Publication) error {
		takeBack(asked, s)
		for id, d := range p.leaving.served {
			if means(s, d.Service) {
				p.stopServing(id)
			}
		}
		return nil
	})
}

func takeBack(asked map[key]Publication, s mesh.Service) {
	maps.DeleteFunc(asked, func(_ key, pub Publication) bool { return means(s, pub.Service) })
}

// means tells whether who names s means that publication.
func means(s, published mesh.Service) bool {
	of := s
	of.Protocol = cmp.Or(s.Protocol, published.Protocol)
	of = naming.Canonical(of)
	return published.Name == of.Name && published.Group == of.Group && of.Protocol == published.Protocol &&
		(of.Version == published.Version || of.Version == "" && s.Protocol != "dubbo")
}

// ask changes what the application asked for: on disk first.
func (p *Publisher) ask(change func(map[key]Publication) error) error {
	if err := p.askLocked(change); err != nil {
		return err
	}
	p.reconcile()
	return nil
}

func (p *Publisher) askLocked(change func(map[key]Publication) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	free, err := lock(p.opts.File)
	if err != nil {
		return fmt.Errorf("%w: the publication cannot be kept: %w", components.ErrUnavailable, err)
	}
	defer free()
	p.reread()
	next := maps.Clone(p.asked)
	if err := change(next); err != nil || maps.EqualFunc(next, p.asked, same) {
		return err
	}
	if err := save(p.opts.File, next); err != nil {
		return fmt.Errorf("%w: the publication cannot be kept: %w", components.ErrUnavailable, err)
	}
	p.asked = next
	return nil
}

// Refresh takes over what another process has written into the file: the sidecar that this one replaces, which the application may
// still be talking to.
func (p *Publisher) Refresh() {
	p.mu.Lock()
	p.reread()
	p.mu.Unlock()
	p.reconcile()
}

// reread makes the file what counts, if it is there and in order. p.mu is held.
func (p *Publisher) reread() {
	asked, found, err := load(p.opts.File)
	switch {
	case found:
		p.asked = asked
	case err != nil:
		p.opts.Logger.Warn("kept publications cannot be read; what is known of them counts", "file", p.opts.File, "err", err)
	}
}

// Announced waits until the registry has each service whose port answers.
func (p *Publisher) Announced(ctx context.Context) error {
	p.mu.Lock()
	keepers := maps.Clone(p.keepers)
	p.mu.Unlock()
	for id, k := range keepers {
		select {
		case <-k.settled:
		case <-k.ended:
		case <-ctx.Done():
			return fmt.Errorf("the registry could not be told of service %q: %w", id.name, context.Cause(ctx))
		}
	}
	return nil
}

// all and wanted are called with p.mu held.
func (p *Publisher) all() map[key]struct{} {
	all := map[key]struct{}{}
	for id := range p.declared {
		all[id] = struct{}{}
	}
	for id := range p.asked {
		all[id] = struct{}{}
	}
	return all
}

func (p *Publisher) wanted(id key) (Publication, bool) {
	if pub, ok := p.asked[id]; ok {
		return pub, true
	}
	pub, ok := p.declared[id]
	return pub, ok
}

// reconcile tells each keeper what is wanted now.
func (p *Publisher) reconcile() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.all() {
		if p.keepers[id] == nil && !p.gone {
			p.keepers[id] = p.keep(id)
		}
	}
	p.index()
	for id, k := range p.keepers {
		if pub, ok := p.wanted(id); ok && !p.gone {
			k.set(&pub)
		} else {
			k.set(nil)
		}
	}
}

// Withdraw takes all publications out of the registry, for good; what is kept on disk stays. It returns when the registry has
// heard of it, or ctx has ended; then it goes on until Close.
func (p *Publisher) Withdraw(ctx context.Context) error {
	p.mu.Lock()
	p.gone = true
	keepers := slices.Collect(maps.Values(p.keepers))
	p.mu.Unlock()
	p.reconcile()
	for _, k := range keepers {
		select {
		case <-k.ended:
		case <-ctx.Done():
			return fmt.Errorf("services could not be taken out of the registry in time: %w", ctx.Err())
		}
	}
	return nil
}

// Close ends the work. What was not withdrawn stays in the registry for as long as its driver is there.
func (p *Publisher) Close() {
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	p.end()
	p.work.Wait()
}
