// Package publish keeps an application's services in the central registry: each is announced at the sidecar's own address,
// and only while the application's port answers. What the application asked for through the API is kept on disk, so that
// it outlives a restart of the sidecar; what the configuration declares is not.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/native"
)

// Publication is a service that the application serves on a port of its own.
type Publication struct {
	Service mesh.Service
	Port    int
	Weight  int // 0: 100
	Zone    string
	Labels  map[string]string
}

// Options are what a Publisher needs.
type Options struct {
	// Registry answers the front of the central registry; it may change with the configuration.
	Registry func() (*registry.Registry, error)
	// Announce is the address that other sidecars reach this one at.
	Announce string
	// File keeps what the application published; "": nothing is kept.
	File   string
	Logger *slog.Logger
	// Probe is how often the application's port is tried: 500 ms.
	Probe time.Duration
}

// Publisher holds an application's publications. Safe for concurrent use.
type Publisher struct {
	opts Options

	mu       sync.Mutex
	declared map[string]Publication // by the service's name
	asked    map[string]Publication
	keepers  map[string]*keeper
	gone     bool // withdrawn: nothing is announced any more
}

// New makes a publisher with what was asked of its file before.
func New(o Options) (*Publisher, error) {
	if o.Probe == 0 {
		o.Probe = 500 * time.Millisecond
	}
	asked, err := load(o.File)
	if err != nil {
		return nil, err
	}
	p := &Publisher{opts: o, declared: map[string]Publication{}, asked: asked, keepers: map[string]*keeper{}}
	p.reconcile()
	return p, nil
}

// Declare makes the declared publications those of the configuration.
func (p *Publisher) Declare(all []Publication) {
	p.mu.Lock()
	p.declared = map[string]Publication{}
	for _, pub := range all {
		p.declared[pub.Service.Name] = pub
	}
	p.mu.Unlock()
	p.reconcile()
}

// Publish announces a service as soon as its port answers, in place of a publication with the same name.
func (p *Publisher) Publish(_ context.Context, pub Publication) (announced string, err error) {
	if pub.Port < 1 || pub.Port > 65535 {
		return "", fmt.Errorf("%w: port %d: it is where the application listens, from 1 to 65535", components.ErrInvalid, pub.Port)
	}
	if pub.Weight < 0 {
		return "", fmt.Errorf("%w: weight %d is negative", components.ErrInvalid, pub.Weight)
	}
	if err := native.Record(pub.Service, mesh.Instance{Address: p.opts.Announce}).Check(); err != nil {
		return "", err
	}
	if err := p.ask(func(asked map[string]Publication) { asked[pub.Service.Name] = pub }); err != nil {
		return "", err
	}
	return p.opts.Announce, nil
}

// Unpublish takes a publication back; that there is none is no error.
func (p *Publisher) Unpublish(_ context.Context, s mesh.Service) error {
	return p.ask(func(asked map[string]Publication) { delete(asked, s.Name) })
}

// ask changes what the application asked for: on disk first.
func (p *Publisher) ask(change func(map[string]Publication)) error {
	p.mu.Lock()
	next := maps.Clone(p.asked)
	change(next)
	err := save(p.opts.File, next)
	if err == nil {
		p.asked = next
	}
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: the publication cannot be kept: %w", components.ErrUnavailable, err)
	}
	p.reconcile()
	return nil
}

// Port is where the application serves a service, announced or not.
func (p *Publisher) Port(service string) (port int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pub, ok := p.wanted(service)
	return pub.Port, ok
}

func (p *Publisher) wanted(service string) (Publication, bool) {
	if pub, ok := p.asked[service]; ok {
		return pub, true
	}
	pub, ok := p.declared[service]
	return pub, ok
}

// reconcile starts and ends keepers until there is one for each publication.
func (p *Publisher) reconcile() {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := slices.Collect(maps.Keys(p.declared))
	names = slices.AppendSeq(names, maps.Keys(p.asked))
	for name, k := range p.keepers {
		if pub, ok := p.wanted(name); !ok || p.gone || !same(pub, k.pub) {
			k.stop()
			delete(p.keepers, name)
		}
	}
	for _, name := range names {
		if pub, _ := p.wanted(name); p.keepers[name] == nil && pub.Port != 0 && !p.gone {
			p.keepers[name] = p.keep(pub)
		}
	}
}

func same(a, b Publication) bool {
	return a.Service == b.Service && a.Port == b.Port && a.Weight == b.Weight && a.Zone == b.Zone && maps.Equal(a.Labels, b.Labels)
}

// Withdraw takes all publications out of the registry, for good; what is kept on disk stays. It returns when the registry has
// heard of it, or ctx has ended.
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
			return errors.Join(errors.New("services could not be taken out of the registry in time"), ctx.Err())
		}
	}
	return nil
}

// Answers tells whether the port of a service answered when it was tried last.
func (p *Publisher) Answers(service string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.keepers[service]
	return k != nil && k.up.Load()
}

// keeper announces one publication while its port answers.
type keeper struct {
	p     *Publisher
	pub   Publication
	log   *slog.Logger
	up    atomic.Bool // the port answered lately
	told  string      // the failure that was logged
	stop  context.CancelFunc
	ended chan struct{}
}

func (p *Publisher) keep(pub Publication) *keeper {
	ctx, stop := context.WithCancel(context.Background())
	k := &keeper{p: p, pub: pub, stop: stop, ended: make(chan struct{}),
		log: p.opts.Logger.With("service", pub.Service.String(), "port", pub.Port)}
	go func() {
		defer close(k.ended)
		k.run(ctx)
	}()
	return k
}

const (
	missesAllowed = 2 // probes in a row that may fail before the service is taken out
	registryTime  = 5 * time.Second
)

func (k *keeper) run(ctx context.Context) {
	var announced bool
	misses := 0
	tick := time.NewTicker(k.p.opts.Probe)
	defer tick.Stop()
	for {
		if k.answers(ctx) {
			misses = 0
		} else {
			misses++
		}
		k.up.Store(misses <= missesAllowed && (misses == 0 || announced))
		switch {
		case ctx.Err() != nil:
		case misses == 0 && !announced:
			announced = k.tell(ctx, true)
		case misses > missesAllowed && announced:
			announced = !k.tell(ctx, false)
		}
		select {
		case <-ctx.Done():
			if announced {
				k.tell(context.WithoutCancel(ctx), false)
			}
			return
		case <-tick.C:
		}
	}
}

func (k *keeper) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, k.p.opts.Probe)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(k.pub.Port)))
	if err != nil {
		return false
	}
	nc.Close()
	return true
}

// tell writes the record, or takes it out, and tells whether that has happened.
func (k *keeper) tell(ctx context.Context, there bool) bool {
	ctx, cancel := context.WithTimeout(ctx, registryTime)
	defer cancel()
	front, err := k.p.opts.Registry()
	if err == nil {
		weight := k.pub.Weight
		if weight == 0 {
			weight = 100
		}
		r := native.Record(k.pub.Service, mesh.Instance{Address: k.p.opts.Announce, Weight: weight, Zone: k.pub.Zone, Labels: k.pub.Labels})
		if there {
			err = front.Register(ctx, r)
		} else {
			err = front.Deregister(ctx, r.Service, r.Address)
		}
	}
	if err != nil {
		if text := err.Error(); text != k.told { // once for each reason, not for each attempt
			k.told = text
			k.log.Warn("registry was not told of the service; trying again", "announce", there, "err", err)
		}
		return false
	}
	k.told = ""
	k.log.Info("service announced", "announce", there, "address", k.p.opts.Announce)
	return true
}
