package mesh

import (
	"slices"
	"sync"
	"time"
)

// Addresses finds the service that has an instance at an address, for clients that choose the instance themselves and name it
// alone. It knows the services that Directory watches. Safe for concurrent use.
type Addresses struct {
	Directory *Directory
	Watched   func() []Service // more services, which it has the directory watch

	mu      sync.Mutex
	made    time.Time
	service map[string]Service
}

// addressesAge is how often a look for an address that is not known may go through all instances.
const addressesAge = 100 * time.Millisecond

// Begin has the directory learn the watched services.
func (a *Addresses) Begin() {
	for _, s := range a.Watched() {
		a.Directory.Find(s)
	}
}

// Service answers whose instance is at an address, HOST:PORT.
func (a *Addresses) Service(address string) (Service, bool) {
	a.Begin() // or the directory would forget them
	a.mu.Lock()
	defer a.mu.Unlock()
	if s, ok := a.service[address]; ok && a.Directory.has(s, address) {
		return s, true
	}
	if time.Since(a.made) < addressesAge {
		return Service{}, false
	}
	a.made, a.service = time.Now(), map[string]Service{}
	a.Directory.services.Range(func(_, v any) bool {
		e := v.(*Entry)
		for _, p := range e.Snapshot().Endpoints {
			a.service[p.instance.Address] = e.Service
		}
		return true
	})
	s, ok := a.service[address]
	return s, ok
}

// has tells whether an instance of a service is at an address.
func (d *Directory) has(s Service, address string) bool {
	e := d.Find(s)
	return e != nil && slices.ContainsFunc(e.Snapshot().Endpoints, func(p *Endpoint) bool { return p.instance.Address == address })
}
