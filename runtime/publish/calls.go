package publish

import (
	"sync/atomic"
	"time"
)

// served is what calls are let in for, by service, by service and protocol, and by port. It is made anew with each change and never changed, so that
// calls do not wait for a change that is being written.
type served struct {
	services map[string]struct{}
	by       map[spoken]door
	ports    map[int]struct{}
}

// door is where one is served.
type door struct {
	port   int
	called *atomic.Int64 // when it was called last, in ns since 1970; nil: it is not published any more
}

// spoken is a service by a protocol.
type spoken struct{ service, protocol string }

// index makes anew what calls are let in for. p.mu is held.
func (p *Publisher) index() {
	s := &served{services: map[string]struct{}{}, by: map[spoken]door{}, ports: map[int]struct{}{}}
	add := func(pub *Publication, called *atomic.Int64) {
		s.ports[pub.Port] = struct{}{}
		if _, over := s.by[spoken{pub.Service.Name, pub.Service.Protocol}]; !over {
			s.by[spoken{pub.Service.Name, pub.Service.Protocol}] = door{pub.Port, called}
		}
		s.services[pub.Service.Name] = struct{}{}
	}
	called := map[string]*atomic.Int64{}
	for _, id := range sorted(p.all()) { // of the groups of a service, which are all on one port, that without a name is the first
		if called[id.name] = p.called[id.name]; called[id.name] == nil {
			called[id.name] = &atomic.Int64{}
		}
		pub, _ := p.wanted(id)
		add(&pub, called[id.name])
	}
	p.called = called
	for _, id := range sorted(p.leaving.served) {
		if _, again := p.wanted(id); !again {
			add(&p.leaving.served[id].Publication, nil)
		}
	}
	p.served.Store(s)
}

// Port is where the application serves a service by that protocol, announced or not, whatever its group and version, for who has a call of it.
func (p *Publisher) Port(service, protocol string) (port int, ok bool) {
	return p.served.Load().by[spoken{service, protocol}].enter()
}

// enter notes a call; false: there is no such service.
func (d door) enter() (port int, ok bool) {
	if d.called != nil {
		d.called.Store(time.Now().UnixNano())
	}
	return d.port, d.port != 0
}

// Serves tells whether the application serves a service, announced or not.
func (p *Publisher) Serves(service string) bool {
	_, ok := p.served.Load().services[service]
	return ok
}

// Uses tells whether the application serves anything at a port.
func (p *Publisher) Uses(port int) bool {
	_, ok := p.served.Load().ports[port]
	return ok
}

// Answers tells whether the port of a service answered when it was tried last.
func (p *Publisher) Answers(service string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, k := range p.keepers {
		if id.name == service && k.up.Load() {
			return true
		}
	}
	return false
}
