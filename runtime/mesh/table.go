package mesh

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components"
)

// Table holds the policies that are in force. They are replaced as a whole: a call is decided by those before or by those after. Safe for
// concurrent use; the zero value has the defaults alone.
type Table struct {
	now atomic.Pointer[policies]
}

// Apply puts p in force, if nothing is wrong with it; else it changes nothing and says what is. namespace is that of services without one.
func (t *Table) Apply(p Policies, namespace string) error {
	if err := p.Valid(); err != nil {
		return err
	}
	t.now.Store(compile(p, namespace))
	return nil
}

// Valid says all that is wrong, in the kind ErrInvalid; nil: nothing.
func (p *Policies) Valid() error {
	var faults []string
	p.Check(func(path string, value any, what string, _ []string) {
		faults = append(faults, fmt.Sprintf("%s: %q %s", path, fmt.Sprint(value), what))
	})
	if faults == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", components.ErrInvalid, strings.Join(faults, "\n"))
}

var noPolicies = compile(Policies{Defaults: DefaultRule()}, "")

func (t *Table) policies() *policies {
	if t != nil {
		if p := t.now.Load(); p != nil {
			return p
		}
	}
	return noPolicies
}

// policies is what Policies were made into. It is never changed.
type policies struct {
	services map[place]*rules
	rest     *rules // of services that nothing names
	origin   Origin
}

type place struct{ namespace, name string }

// rules are those of one service, in the order in which they are tried; the last route fits every call.
type rules struct {
	routes     []*route
	migrations []*Migration
}

// route is a Route with all that follows from it.
type route struct {
	Route
	rules []string // what the access log calls each share
}

func compile(p Policies, namespace string) *policies {
	named := map[place]bool{}
	for i := range p.Routes {
		named[placeOf(p.Routes[i].Service, namespace)] = true
	}
	for i := range p.Migration {
		named[placeOf(p.Migration[i].Service, namespace)] = true
	}
	c := &policies{services: make(map[place]*rules, len(named)), rest: &rules{}, origin: p.Origin}
	for at := range named {
		c.services[at] = &rules{}
	}
	each := func(service string, add func(*rules)) {
		at := placeOf(service, namespace)
		if service != "*" {
			add(c.services[at])
			return
		}
		for _, r := range c.services {
			add(r)
		}
		add(c.rest)
	}
	for i := range p.Routes {
		made := newRoute(p.Routes[i], i, p.Defaults)
		each(p.Routes[i].Service, func(r *rules) { r.routes = append(r.routes, made) })
	}
	for i := range p.Migration {
		each(p.Migration[i].Service, func(r *rules) { r.migrations = append(r.migrations, &p.Migration[i]) })
	}
	last := newRoute(Route{Name: "default"}, 0, p.Defaults)
	for _, r := range c.services {
		r.routes = append(r.routes, last)
	}
	c.rest.routes = append(c.rest.routes, last)
	return c
}

func newRoute(r Route, at int, defaults Rule) *route {
	if r.Name == "" {
		r.Name = fmt.Sprintf("%s#%d", r.Service, at+1)
	}
	r.Rule = r.Rule.with(defaults)
	made := &route{Route: r}
	for i := range r.Split {
		made.rules = append(made.rules, r.Name+"/"+r.Split[i].String())
	}
	return made
}

func placeOf(service, namespace string) place {
	if ns, name, both := strings.Cut(service, "/"); both {
		return place{ns, name}
	}
	return place{namespace, service}
}

// of finds the rules of a service: by its name, or by NAME:VERSION and NAME:VERSION:GROUP as Bolt's services are called.
func (p *policies) of(s *Service) *rules {
	if len(p.services) == 0 {
		return p.rest
	}
	if s.Version != "" {
		full := s.Name + ":" + s.Version
		if s.Group != "" {
			if r := p.services[place{s.Namespace, full + ":" + s.Group}]; r != nil {
				return r
			}
		}
		if r := p.services[place{s.Namespace, full}]; r != nil {
			return r
		}
	}
	if r := p.services[place{s.Namespace, s.Name}]; r != nil {
		return r
	}
	return p.rest
}

// route is the first that fits.
func (r *rules) route(q *Request) *route {
	for _, one := range r.routes {
		if one.Match.fits(q) {
			return one
		}
	}
	return r.routes[len(r.routes)-1]
}

// migration is the first that fits; nil: none.
func (r *rules) migration(q *Request) *Migration {
	for _, m := range r.migrations {
		if fitsSource(m.Source, q) && fitsHeaders(m.Headers, q) {
			return m
		}
	}
	return nil
}

// point is where a call stands in 0 to n-1: the same for the same value of the header that it sticks to, on each sidecar; else by chance.
func point(sticky, salt string, q *Request, n int) int {
	if sticky != "" && q.Header != nil {
		if value := q.Header(sticky); value != "" {
			h := fnv.New64a()
			h.Write([]byte(salt))
			h.Write([]byte{0})
			h.Write([]byte(value))
			return int(mixed(h.Sum64()) % uint64(n))
		}
	}
	return rand.IntN(n)
}

// mixed spreads what FNV leaves close together (the finalizer of MurmurHash3).
func mixed(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
