package publish

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/components/registry"
)

const (
	missesAllowed = 2  // probes in a row that may fail before the service is taken out
	certain       = 5  // and before it is taken that there is nothing to announce
	patience      = 10 // and before it is logged that nobody answers: applications take a while to start
	hurry         = 5  // times as often as else a port is probed that refuses: callers are to know within a second that an application is gone
	registryTime  = 5 * time.Second
	answerTime    = 500 * time.Millisecond // that a port has to accept a connection, however often it is asked
)

// keeper sees to one publication, whatever it is at the moment: there is one for each key, so that the registry hears of
// changes in their order. It ends when nothing is wanted and the registry has nothing.
type keeper struct {
	p     *Publisher
	id    key
	want  atomic.Pointer[Publication] // nil: nothing
	wake  chan struct{}
	up    atomic.Bool            // the port answered lately
	why   atomic.Pointer[string] // the registry has it not; "": it has
	ended chan struct{}
	// settled is closed when the registry has for the first time what it should.
	settled chan struct{}

	// Of its goroutine alone.
	misses  int
	refused bool               // by the last probe: nobody listens, which a machine that is busy does not look like
	port    int                // that was tried last
	told    *Publication       // what the registry was asked to have; nil: nothing
	wrote   []registry.Record  // as which records
	heard   bool               // and it has them
	front   *registry.Registry // which one was asked
	said    string             // the failure that was logged
	once    bool               // it has settled
}

// keep starts a keeper. p.mu is held.
func (p *Publisher) keep(id key) *keeper {
	k := &keeper{p: p, id: id, wake: make(chan struct{}, 1), ended: make(chan struct{}), settled: make(chan struct{})}
	k.stand(notTried)
	p.work.Go(func() {
		defer close(k.ended)
		p.mu.Lock() // until who made it has said what is wanted: nothing would be settled at once
		p.mu.Unlock()
		k.run(p.ctx)
	})
	return k
}

func (k *keeper) stand(why string) { k.why.Store(&why) }

func (k *keeper) set(pub *Publication) {
	if old := k.want.Swap(pub); old != nil && pub != nil && same(*old, *pub) {
		return
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// dismiss lets a keeper go that has nothing to do.
func (p *Publisher) dismiss(k *keeper) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.want.Load() != nil {
		return false
	}
	delete(p.keepers, k.id)
	return true
}

func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(k.p.opts.Probe)
	defer tick.Stop()
	for {
		k.step(ctx, k.want.Load())
		k.stand(k.standing())
		tick.Reset(k.next())
		k.settle()
		if k.told == nil && k.want.Load() == nil && k.p.dismiss(k) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-tick.C:
		}
	}
}

// next is how long to wait until the port is probed again.
func (k *keeper) next() time.Duration {
	if k.refused && k.told != nil && k.misses <= missesAllowed {
		return k.p.opts.Probe / hurry
	}
	return k.p.opts.Probe
}

func (k *keeper) settle() {
	if !k.once && (k.heard || k.misses >= certain || k.want.Load() == nil) {
		k.once = true
		close(k.settled)
	}
}

// step looks after what is wanted and makes the registry have it.
func (k *keeper) step(ctx context.Context, want *Publication) {
	if want == nil {
		k.up.Store(false)
		k.retract(ctx, nil)
		return
	}
	if want.Port != k.port { // calls go to the new port already, so it gets no time to come up
		k.port, k.misses = want.Port, missesAllowed
	}
	err := probe(ctx, want.Port)
	if k.refused = errors.Is(err, syscall.ECONNREFUSED); err == nil {
		k.misses = 0
	} else if k.misses++; ctx.Err() != nil {
		return
	}
	k.up.Store(k.misses == 0 || k.misses <= missesAllowed && k.told != nil)
	switch {
	case k.misses == 0:
		k.announce(ctx, want, want.weight())
	case k.misses > missesAllowed:
		if k.misses == patience {
			k.log(want).Warn("application does not answer on its port: the service is announced when it does")
		}
		if want.Itself && k.told != nil { // its own record stays for a while, with the sidecar's address: without ours that would be called
			k.announce(ctx, want, 0)
			return
		}
		k.retract(ctx, err)
	}
}

func probe(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		nc.Close()
	}
	return err
}

// announce makes the registry have want with that weight, unless it has.
func (k *keeper) announce(ctx context.Context, want *Publication, weight int) {
	front, err := k.p.opts.Names.Registry()
	if err != nil {
		k.failed(want, err)
		return
	}
	provider := want.provider(k.p.opts.Announce, k.p.opts.App)
	provider.Instance.Weight = weight
	if k.p.opts.Identity != nil {
		provider.Instance.Identity = k.p.opts.Identity()
	}
	records := k.p.opts.Names.Records(front, provider)
	if k.heard && k.front == front && slices.EqualFunc(k.wrote, records, registry.Record.Same) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, registryTime)
	defer cancel()
	var stale []registry.Record // what another registry has goes with its component
	if k.front == front {
		stale = slices.DeleteFunc(slices.Clone(k.wrote), func(r registry.Record) bool {
			return slices.ContainsFunc(records, func(now registry.Record) bool { return samePlace(r, now) })
		})
	}
	k.told, k.front, k.heard = want, front, false // also if it fails: the registry may try again by itself
	k.wrote = append(slices.Clone(stale), records...)
	for _, r := range records {
		err = errors.Join(err, front.Register(ctx, r))
	}
	for _, r := range stale { // last: the service is never without a record
		err = errors.Join(err, front.Deregister(ctx, r.Service, r.Address))
	}
	if err != nil {
		k.failed(want, err)
		return
	}
	k.wrote, k.heard, k.said = records, true, ""
	if weight == 0 {
		k.log(want).Warn("service announced as not to be called: its port does not answer", "address", k.p.opts.Announce)
		return
	}
	k.log(want).Info("service announced", "address", k.p.opts.Announce, "weight", weight)
}

func samePlace(a, b registry.Record) bool { return a.Service == b.Service && a.Address == b.Address }

// retract makes the registry have nothing, if it was asked to have something. miss is what the port said; nil: nothing is wanted any more.
func (k *keeper) retract(ctx context.Context, miss error) {
	if k.told == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, registryTime)
	defer cancel()
	var err error
	for _, r := range k.wrote {
		err = errors.Join(err, k.front.Deregister(ctx, r.Service, r.Address))
	}
	if err != nil {
		k.heard = false
		k.failed(k.told, err)
		return
	}
	if miss != nil {
		k.log(k.told).Warn("service taken out of the registry: its port does not answer", "address", k.p.opts.Announce, "err", miss)
	} else {
		k.log(k.told).Info("service taken out of the registry: it is not published any more, or the sidecar ends", "address", k.p.opts.Announce)
	}
	k.told, k.wrote, k.heard, k.said = nil, nil, false, ""
}

// failed logs a failure once for each reason, not for each attempt.
func (k *keeper) failed(pub *Publication, err error) {
	if text := err.Error(); text != k.said {
		k.said = text
		k.log(pub).Warn("registry was not told of the service; trying again", "err", err)
	}
}

func (k *keeper) log(pub *Publication) *slog.Logger {
	return k.p.opts.Logger.With("service", pub.Service.String(), "port", pub.Port)
}
