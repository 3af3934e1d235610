package mesh

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Explanation tells how a request would be decided now, and why. It is for people: its texts may change.
type Explanation struct {
	Service   string         `json:"service"`
	Rule      string         `json:"rule"`              // the route that decides
	PassedBy  []string       `json:"passed_by"`         // routes for the service that come before it and do not match
	Refused   string         `json:"refused,omitempty"` // why a call would fail
	Policies  Origin         `json:"policies"`
	Timeout   string         `json:"timeout"`
	PerTry    string         `json:"per_try"`
	Attempts  int            `json:"attempts"`
	Repeats   bool           `json:"repeats"` // also what may have been handled already
	Budget    float64        `json:"budget"`  // repetitions that are left
	Balance   string         `json:"balance"`
	Active    int64          `json:"active"` // calls to the service under way from here
	Breaker   Breaker        `json:"breaker"`
	Migration string         `json:"migration,omitempty"`
	Stale     bool           `json:"stale,omitempty"` // the registry has not answered: all this is from the disk
	Error     string         `json:"error,omitempty"` // of the registry
	Shares    []ShareState   `json:"shares,omitempty"`
	Instances []InstanceView `json:"instances"`
}

// ShareState is one share of the split.
type ShareState struct {
	Labels    string `json:"labels"`
	Weight    int    `json:"weight"`
	Instances int    `json:"instances"` // that take calls; a share without them leaves its calls to the others
}

// InstanceView is one instance, and whether calls go there.
type InstanceView struct {
	Address  string            `json:"address"`
	Weight   int               `json:"weight"`
	Zone     string            `json:"zone,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Identity string            `json:"identity,omitempty"`
	Direct   bool              `json:"direct,omitempty"`
	Active   int64             `json:"active"`   // calls under way from here
	Failures int64             `json:"failures"` // in a row
	Taken    bool              `json:"taken"`
	Why      string            `json:"why"`
}

// Explain tells how a request would be decided. A service that nobody has asked for is being watched from then on, so that the next answer knows more.
func (e *Router) Explain(r *Request) *Explanation {
	p := e.Policies.policies()
	rules := p.of(&r.Service)
	route := rules.route(r)
	x := &Explanation{Service: r.Service.String(), Rule: route.Name, Policies: p.origin, Timeout: route.Timeout.String(), PerTry: route.Retry.PerTry.String(),
		Attempts: route.Retry.Attempts, Repeats: route.Idempotent || r.Repeatable, Balance: route.Balance, Breaker: route.Breaker, PassedBy: []string{}}
	for _, other := range rules.routes[:slices.Index(rules.routes, route)] {
		x.PassedBy = append(x.PassedBy, other.Name)
	}
	if _, err := e.Route(r); err != nil {
		x.Refused = err.Error()
	}
	entry := e.Directory.Find(r.Service)
	if entry == nil {
		return x
	}
	s := entry.Snapshot()
	if x.Stale = s.Stale; s.Err != nil {
		x.Error = s.Err.Error()
	}
	x.Active = entry.active.Load()
	x.Budget = math.Round(100*float64(entry.budget.left.Load()+lent)/repetition) / 100
	m := rules.migration(r)
	if m != nil {
		x.Migration = m.Mesh.String() + " of the calls go through sidecars"
	}
	for i := range route.Split {
		share := &route.Split[i]
		n := 0
		if all := s.subset(p, setKey{share: share}); all != nil {
			n = len(all.endpoints)
		}
		x.Shares = append(x.Shares, ShareState{Labels: share.String(), Weight: share.Weight, Instances: n})
	}
	now := int64(time.Since(started))
	for _, list := range [...][]*Endpoint{s.Endpoints, s.Held} {
		for _, end := range list {
			x.Instances = append(x.Instances, end.view(route, m, slices.Contains(s.Held, end), now))
		}
	}
	return x
}

// view tells of one endpoint whether a call by that route may go there.
func (e *Endpoint) view(route *route, m *Migration, held bool, now int64) InstanceView {
	in := e.instance
	v := InstanceView{Address: in.Address, Weight: in.Weight, Zone: in.Zone, Labels: in.Labels.Map(), Identity: in.Identity, Direct: in.Direct,
		Active: e.active.Load(), Failures: e.failures.Load()}
	shares := 0
	for i := range route.Split {
		if route.Split[i].Weight > 0 && route.Split[i].fits(in) {
			shares++
		}
	}
	limit := int64(route.Breaker.Instance)
	switch until := e.ejected.Load(); {
	case in.Weight <= 0:
		v.Why = "its weight is 0"
	case len(route.Split) > 0 && shares == 0:
		v.Why = "it has the labels of no share of the split"
	case m != nil && in.Direct && m.Mesh == whole:
		v.Why = "the migration sends all calls through sidecars: only when none of these is well"
	case m != nil && !in.Direct && m.Mesh <= 0:
		v.Why = "the migration sends no call through sidecars: only when no application is well"
	case m != nil && !in.Direct && !(setKey{migration: m}).fits(in):
		v.Why = "it takes no part in the migration"
	case !e.usable(now):
		v.Why = fmt.Sprintf("it failed %d times in a row: out of play for %v more, unless no other is left", v.Failures, time.Duration(until-now).Round(time.Millisecond))
	case limit > 0 && v.Active >= limit:
		v.Why = fmt.Sprintf("%d calls are under way there, as many as breaker.instance allows", v.Active)
	default:
		v.Taken, v.Why = true, "a candidate"
		if held {
			v.Why = "a candidate, though the registry has dropped it with most others at once"
		}
	}
	return v
}
