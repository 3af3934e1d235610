package mesh

import (
	"slices"
	"sync"
	"time"
)

// Addresses finds the service of HTTP that has an instance at an address, for clients that choose the instance themselves and name it
// alone. It knows the services that Directory watches. Where several have one at it, as those of one application, the first of Watched
// counts, then the first by its name: to call another its name is needed. Safe for concurrent use.
type Addresses struct {
	Directory *Directory
	Watched   func() []Service // more services, which it has the directory watch

	mu    sync.Mutex
	made  time.Time
	known map[string]*known
}

// known is whose an address is, and since when it is not any more.
type known struct {
	Service
	gone time.Time
}

const (
	// addressesAge is how often a look for an address that is not known may go through all instances.
	addressesAge = 100 * time.Millisecond
	// lingers is how long an address is known that an instance had: its clients learn by their own way that it has gone, and meanwhile
	// their calls go to the others.
	lingers = time.Minute
)

// Begin has the directory learn the watched services.
func (a *Addresses) Begin() {
	for _, s := range a.Watched() {
		a.Directory.Find(s)
	}
}

// Service answers whose instance is at an address, HOST:PORT, or was a minute ago.
func (a *Addresses) Service(address string) (Service, bool) {
	a.Begin() // or the directory would forget them
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.known[address]
	if k != nil && a.Directory.has(k.Service, address) {
		k.gone = time.Time{}
		return k.Service, true
	}
	if time.Since(a.made) >= addressesAge {
		a.made = time.Now()
		a.look()
		k = a.known[address]
	}
	if k == nil {
		return Service{}, false
	}
	return k.Service, true
}

// look goes through all instances.
func (a *Addresses) look() {
	before := a.known
	a.known = make(map[string]*known, len(before))
	watched := a.Watched()
	a.Directory.services.each(func(e *Entry) bool {
		if e.Service.Protocol != HTTP {
			return true
		}
		for _, p := range e.Snapshot().Endpoints {
			if k := a.known[p.instance.Address]; k == nil || first(watched, e.Service, k.Service) {
				a.known[p.instance.Address] = &known{Service: e.Service}
			}
		}
		return true
	})
	for address, k := range before {
		if a.known[address] != nil {
			continue
		}
		if k.gone.IsZero() {
			k.gone = a.made
		}
		if a.made.Sub(k.gone) < lingers {
			a.known[address] = k
		}
	}
}

// first tells whether a service comes before another: in a list, or else by its name.
func first(list []Service, s, other Service) bool {
	i, j := slices.Index(list, s), slices.Index(list, other)
	if i != j {
		return j < 0 || i >= 0 && i < j
	}
	return s.String() < other.String()
}

// has tells whether an instance of a service is at an address.
func (d *Directory) has(s Service, address string) bool {
	e := d.Find(s)
	return e != nil && slices.ContainsFunc(e.Snapshot().Endpoints, func(p *Endpoint) bool { return p.instance.Address == address })
}
