package mesh

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

var (
	errTooManyServices = fmt.Errorf("%w: too many services are watched", components.ErrExhausted)
	errClosed          = fmt.Errorf("%w: the sidecar is ending", components.ErrUnavailable)
)

// Router is the Engine over a Directory: it does what the policies say, spreads calls over a service's instances by weight and
// load, keeps away from those that just failed, and ends circles.
type Router struct {
	Directory *Directory
	Policies  *Table        // nil: the defaults
	MaxHops   int           // sidecars that a call may pass
	Timeout   time.Duration // for calls that bring no deadline; 0: none
}

var _ Engine = (*Router)(nil)

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
	case s.Known && len(s.Endpoints)+len(s.Held) > 0:
	case s.Known:
		return nil, noInstance(r.Service)
	case s.Err != nil:
		return nil, RegistryAway(r.Service, s.Err)
	default:
		return nil, &Pending{Wait: entry.Wait}
	}
	p, err := newPlan(entry, s, e.Policies.policies(), r)
	if err != nil {
		return nil, err
	}
	if r.Timeout == 0 && p.timeout == 0 {
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

func noShare(s Service, r *route) error {
	return components.WithReason(fmt.Errorf("%w: no instance of service %s has the labels that route %s asks for", components.ErrUnavailable, s, r.Name), ReasonNoInstance)
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
