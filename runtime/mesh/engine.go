package mesh

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

var (
	errTooManyServices = fmt.Errorf("%w: too many services are watched", components.ErrExhausted)
	errClosed          = fmt.Errorf("%w: the sidecar is ending", components.ErrUnavailable)
)

// Router is the Engine over a Directory: it spreads calls over a service's instances by weight and load, keeps away from those
// that just failed, and ends circles.
type Router struct {
	Directory *Directory
	MaxHops   int           // sidecars that a call may pass
	Timeout   time.Duration // for calls that bring no deadline; 0: none
}

var _ Engine = (*Router)(nil)

const (
	ejectAfter = 3                      // failures without an answer between them
	ejectFirst = 500 * time.Millisecond // doubled at each failure more
	ejectMost  = 30 * time.Second
)

var started = time.Now()

// Route plans one request. See Engine.
func (e *Router) Route(r *Request) (Plan, error) {
	if r.Hops >= e.MaxHops {
		return nil, components.WithReason(fmt.Errorf("%w: the call has passed %d sidecars: it goes round in a circle",
			components.ErrPrecondition, r.Hops), ReasonTooManyHops, "limit", "max_hops")
	}
	entry := e.Directory.Find(r.Service)
	if entry == nil {
		return nil, errTooManyServices
	}
	s := entry.Snapshot()
	switch {
	case s.Known && len(s.Endpoints) > 0:
	case s.Known:
		return nil, noInstance(r.Service)
	case s.Err != nil:
		return nil, RegistryAway(r.Service, s.Err)
	default:
		return nil, &Pending{Wait: entry.Wait}
	}
	p := &plan{endpoints: s.Endpoints, service: r.Service}
	if r.Timeout == 0 {
		p.timeout = e.Timeout
	}
	return p, nil
}

// RegistryAway is the error while nothing is known of a service, since the registry cannot be asked.
func RegistryAway(s Service, why error) error {
	return components.WithReason(fmt.Errorf("%w: the registry cannot be asked for %s: %v", components.ErrUnavailable, s, why),
		ReasonRegistryAway)
}

func noInstance(s Service) error {
	return components.WithReason(fmt.Errorf("%w: service %s has no instance: nobody has published it", components.ErrUnavailable, s), ReasonNoInstance)
}

func noWeight(s Service) error {
	return components.WithReason(fmt.Errorf("%w: no instance of service %s takes calls: all have the weight 0", components.ErrUnavailable, s), ReasonNoInstance)
}

// plan is a request's way over the endpoints of one snapshot.
type plan struct {
	endpoints []*Endpoint
	service   Service
	timeout   time.Duration
	tried     []*Endpoint
	first     [2]*Endpoint // room for tried
}

func (p *plan) Rule() string           { return "default" }
func (p *plan) Timeout() time.Duration { return p.timeout }

func (p *plan) PerTry() time.Duration { return 0 }

// maxAttempts is how often a request is begun, the first time included.
const maxAttempts = 3

// Again lets what was sent nowhere go elsewhere.
func (p *plan) Again(f Failure) bool { return !f.Sent && len(p.tried) < maxAttempts }

func (p *plan) Next() (Attempt, error) {
	e := p.pick(int64(time.Since(started)))
	if e == nil {
		return nil, noWeight(p.service)
	}
	if p.tried == nil {
		p.tried = p.first[:0]
	}
	p.tried = append(p.tried, e)
	e.active.Add(1)
	return e, nil
}

// pick draws two endpoints by weight and takes the one with less to do. Ejected ones, then those tried before, come into play
// only when there are no others.
func (p *plan) pick(now int64) *Endpoint {
	for _, usable := range [...]func(*Endpoint) bool{
		func(e *Endpoint) bool { return e.usable(now) && !slices.Contains(p.tried, e) },
		func(e *Endpoint) bool { return !slices.Contains(p.tried, e) },
		func(*Endpoint) bool { return true },
	} {
		a := p.draw(usable)
		if a == nil {
			continue
		}
		if b := p.draw(usable); b != nil && b.load() < a.load() {
			return b
		}
		return a
	}
	return nil
}

func (e *Endpoint) usable(now int64) bool {
	until := e.ejected.Load()
	return until == 0 || until <= now
}

func (e *Endpoint) load() float64 {
	return float64(e.active.Load()+1) / float64(max(e.instance.Weight, 1))
}

// draw takes one of the usable endpoints at random, each with a chance as its weight.
func (p *plan) draw(usable func(*Endpoint) bool) *Endpoint {
	total := 0
	for _, e := range p.endpoints {
		if usable(e) {
			total += max(e.instance.Weight, 0)
		}
	}
	if total == 0 {
		return nil
	}
	at := rand.IntN(total)
	for _, e := range p.endpoints {
		if usable(e) {
			if at -= max(e.instance.Weight, 0); at < 0 {
				return e
			}
		}
	}
	return nil // weights never change within a snapshot; an ejection that began just now ends up here
}

// Instance and Report make an endpoint the Attempt that goes to it.
func (e *Endpoint) Instance() *Instance { return e.instance }

// Report ends one call to the endpoint. See Attempt.
func (e *Endpoint) Report(o Outcome) {
	e.active.Add(-1)
	switch o {
	case Answered:
		if e.failures.Load() != 0 {
			e.failures.Store(0)
			e.ejected.Store(0)
		}
	case Failed:
		if n := e.failures.Add(1); n >= ejectAfter {
			e.ejected.Store(int64(time.Since(started) + min(ejectFirst<<min(n-ejectAfter, 10), ejectMost)))
		}
	}
}

// Gate is the Inbound of a sidecar: it bounds what the application handles at once and ends circles.
type Gate struct {
	Concurrency int // calls at once
	MaxHops     int

	active atomic.Int64
}

var _ Inbound = (*Gate)(nil)

// Admit takes a call in. See Inbound.
func (g *Gate) Admit(r *Request) error {
	if r.Hops > g.MaxHops {
		return components.WithReason(fmt.Errorf("%w: the call has passed %d sidecars: it goes round in a circle",
			components.ErrPrecondition, r.Hops), ReasonTooManyHops, "limit", "max_hops")
	}
	if g.active.Add(1) > int64(g.Concurrency) {
		g.active.Add(-1)
		return &components.Detail{Err: fmt.Errorf("%w: the application handles %d calls already", components.ErrExhausted, g.Concurrency),
			Reason: ReasonAppBusy, Metadata: map[string]string{"limit": "mesh.inbound.concurrency"}, RetryAfter: 100 * time.Millisecond}
	}
	return nil
}

// Leave ends a call that Admit took in.
func (g *Gate) Leave() { g.active.Add(-1) }

// Active is how many calls the application handles now.
func (g *Gate) Active() int { return int(g.active.Load()) }

// IsPending answers the Pending in err, if it is one.
func IsPending(err error) (*Pending, bool) {
	var p *Pending
	ok := errors.As(err, &p)
	return p, ok
}
