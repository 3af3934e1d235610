package mesh

import (
	"fmt"
	"slices"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// plan is a request's way over the endpoints of one service.
type plan struct {
	entry      *Entry
	service    Service
	route      *route
	protocol   string
	rule       string
	timeout    time.Duration
	repeatable bool
	sets       [2]*subset // where it goes, and where else if that cannot be
	way        way
	tried      []*Endpoint
	first      [2]*Endpoint // room for tried
	turns      [2]turn      // room for the attempts
}

// way is what sets are made of.
type way struct {
	policies  *policies
	share     *Share     // nil: all labels
	migration *Migration // nil: none
	direct    bool
}

// turn is an attempt at an endpoint.
type turn struct {
	*Endpoint
	route *route
	began int64 // in nanoseconds since the start
}

// newPlan decides which instances a request may go to.
func newPlan(entry *Entry, s *Snapshot, p *policies, r *Request) (*plan, error) {
	rules := p.of(&r.Service)
	route := rules.route(r)
	made := &plan{entry: entry, service: r.Service, route: route, protocol: r.Protocol, rule: route.Name, repeatable: r.Repeatable || route.Idempotent}
	if made.timeout = route.Timeout; r.Timeout > 0 && r.Timeout < made.timeout {
		made.timeout = 0 // the caller's own is shorter
	}
	m := rules.migration(r)
	made.way = way{policies: p, migration: m, direct: m != nil && point(m.Sticky, r.Service.Name, r, whole) >= int(m.Mesh)}
	if len(route.Split) > 0 {
		at := made.share(s, r)
		if at < 0 {
			return nil, noShare(r.Service, route)
		}
		made.rule, made.way.share = route.rules[at], &route.Split[at]
	}
	if made.sets = s.along(made.way); made.sets[0] == nil {
		return nil, noWeight(r.Service)
	}
	entry.budget.earn(max(route.Retry.Budget, 0))
	return made, nil
}

// along are the instances on the side that a call goes to, then the others; an empty side comes last. Those that a migration leaves
// out take calls when there are no others.
func (s *Snapshot) along(w way) (both [2]*subset) {
	if w.migration == nil {
		both[0] = s.subset(w.policies, setKey{share: w.share})
		return both
	}
	both[0] = s.subset(w.policies, setKey{share: w.share, migration: w.migration, direct: w.direct})
	both[1] = s.subset(w.policies, setKey{share: w.share, migration: w.migration, direct: !w.direct})
	if both[0] == nil {
		both[0], both[1] = both[1], nil
	}
	if both[0] == nil {
		both[0] = s.subset(w.policies, setKey{share: w.share})
	}
	return both
}

// share draws one of the shares that have instances, and answers which; -1: none has.
func (p *plan) share(s *Snapshot, r *Request) int {
	weight := func(i int) int {
		w := p.way
		if w.share = &p.route.Split[i]; s.along(w)[0] == nil {
			return 0
		}
		return w.share.Weight
	}
	total := 0
	for i := range p.route.Split {
		total += weight(i)
	}
	if total == 0 {
		return -1
	}
	at := point(p.route.Sticky, p.route.Name, r, total)
	for i := range p.route.Split {
		if at -= weight(i); at < 0 {
			return i
		}
	}
	return -1
}

func (p *plan) Rule() string           { return p.rule }
func (p *plan) Timeout() time.Duration { return p.timeout }
func (p *plan) Repeatable() bool       { return p.repeatable && p.route.Retry.Attempts > 1 }
func (p *plan) PerTry() time.Duration  { return p.route.Retry.PerTry }

// elsewhere is how often a request is begun that was sent nowhere so far, at least: to look at another instance costs nobody anything.
const elsewhere = 3

// Again lets what was sent nowhere go elsewhere, to none twice that has said that it does not serve this, and has other calls repeated by the
// route's rule, from the budget of the service: also those of which an instance has said that it does not handle them, since one that is busy must
// not be asked ever more.
func (p *plan) Again(f Failure) bool {
	retry := &p.route.Retry
	most := retry.Attempts
	if !f.Sent && f.Kind != Status && most > 1 {
		return len(p.tried) < max(most, elsewhere) && (f.Kind != NotHere || p.others())
	}
	if f.Sent && !p.repeatable || len(p.tried) >= most {
		return false
	}
	return retry.Budget > 0 && slices.ContainsFunc(retry.On, func(on string) bool { return f.of(on, p.protocol) }) && p.entry.budget.spend()
}

// renew heeds that instances may have come and gone since the plan was made.
func (p *plan) renew() {
	if now := p.entry.Snapshot().along(p.way); now[0] != nil {
		p.sets = now
	}
}

// others tells whether there is an instance that was not tried.
func (p *plan) others() bool {
	p.renew()
	return slices.ContainsFunc(p.sets[:], func(s *subset) bool {
		return s != nil && slices.ContainsFunc(s.endpoints, func(e *Endpoint) bool { return !slices.ContainsFunc(p.tried, e.is) })
	})
}

func (p *plan) Next() (Attempt, error) {
	breaker := &p.route.Breaker
	if n := p.entry.active.Add(1); breaker.Service > 0 && n > int64(breaker.Service) {
		p.entry.active.Add(-1)
		return nil, tooMany(p.service, "the service", breaker.Service, "breaker.service")
	}
	if len(p.tried) > 0 {
		p.renew()
	}
	now := int64(time.Since(started))
	e := p.pick(now)
	if e == nil {
		p.entry.active.Add(-1)
		return nil, tooMany(p.service, "each instance", breaker.Instance, "breaker.instance")
	}
	if p.tried == nil {
		p.tried = p.first[:0]
	}
	p.tried = append(p.tried, e)
	a := &turn{}
	if n := len(p.tried); n <= len(p.turns) {
		a = &p.turns[n-1]
	}
	*a = turn{e, p.route, now}
	return a, nil
}

func tooMany(s Service, what string, limit int, setting string) error {
	return &components.Detail{Err: fmt.Errorf("%w: %d calls to %s of %s are under way already", components.ErrExhausted, limit, what, s),
		Reason: ReasonBreaker, Metadata: map[string]string{"limit": setting}, RetryAfter: 100 * time.Millisecond}
}

// pick takes an endpoint and counts the call as its. Of the side that the call goes to, then of the other, come those that are well; then those that
// are out of play; then those that were tried before. nil: all that there are have as many calls as they may.
func (p *plan) pick(now int64) *Endpoint {
	for worst := range 3 {
		for _, s := range p.sets {
			if s == nil {
				continue
			}
			if e := p.take(s, worst, now); e != nil {
				return e
			}
		}
	}
	return nil
}

func (p *plan) take(s *subset, worst int, now int64) *Endpoint {
	limit := int64(p.route.Breaker.Instance)
	usable := func(e *Endpoint) bool {
		return (worst > 0 || e.usable(now)) && (worst > 1 || !slices.ContainsFunc(p.tried, e.is)) && (limit == 0 || e.active.Load() < limit)
	}
	for {
		e := s.choose(p.route.Balance, usable)
		if e == nil {
			return nil
		}
		if n := e.active.Add(1); (limit == 0 || n <= limit) && (worst > 0 || e.probe(now)) {
			return e
		}
		e.active.Add(-1) // others were faster
	}
}

// Instance is where it goes.
func (t *turn) Instance() *Instance { return t.instance }

// Report ends the attempt. See Attempt.
func (t *turn) Report(o Outcome) {
	e := t.Endpoint
	e.active.Add(-1)
	e.entry.active.Add(-1)
	switch o {
	case Answered:
		if e.failures.Load() != 0 {
			e.failures.Store(0)
			e.ejected.Store(0)
		}
	case Failed, Unreachable:
		e.failed(&t.route.Outlier, o == Unreachable, t.began)
	}
}

// failed counts a failure of an attempt that began then; with as many as the rule says, or at once, the endpoint is out of play for a while, and
// for as long as the attempt took, or others would wait so long for nothing all the time.
func (e *Endpoint) failed(o *Outlier, atOnce bool, began int64) {
	n := int(e.failures.Add(1))
	if atOnce && n < o.Failures {
		n = o.Failures
		e.failures.Store(int64(n))
	}
	if n >= o.Failures {
		now := time.Since(started)
		out := min(max(o.Eject<<min(n-o.Failures, 20), now-time.Duration(began)), o.MaxEject)
		e.out.Store(int64(out))
		e.ejected.Store(int64(now + out))
	}
	if atOnce {
		e.entry.unreachable(e)
	}
}

func (e *Endpoint) usable(now int64) bool {
	until := e.ejected.Load()
	return until == 0 || until <= now
}

// probe says whether a call may go there, if it is usable. One that was out of play gets one call, and others once that was answered, or when nothing
// has come of it for as long as it was out.
func (e *Endpoint) probe(now int64) bool {
	until := e.ejected.Load()
	return until == 0 || until <= now && e.ejected.CompareAndSwap(until, now+e.out.Load())
}

// load leaves out the call that is to come: with it the heavier of two that are idle would always win, who is drawn more often as it is.
func (e *Endpoint) load() float64 {
	return float64(e.active.Load()) / float64(max(e.instance.Weight, 1))
}

// Instance is what is known of it.
func (e *Endpoint) Instance() *Instance { return e.instance }
