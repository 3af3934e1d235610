package publish

import (
	"slices"
	"sync/atomic"
	"time"
)

// served is what calls are let in for, by service and by port. It is made anew with each change and never changed, so that calls do not wait for
// a change that is being written.
type served struct {
	by    map[string][]door // a service's, one for each protocol
	ports map[int]struct{}
}

// door is where a service is served by a protocol.
type door struct {
	protocol string
	port     int
	called   *atomic.Int64 // when it was called last, in ns since 1970; nil: it is not published any more
}

// index makes anew what calls are let in for. p.mu is held.
func (p *Publisher) index() {
	s := &served{by: map[string][]door{}, ports: map[int]struct{}{}}
	add := func(pub *Publication, called *atomic.Int64) {
		s.ports[pub.Port] = struct{}{}
		doors := s.by[pub.Service.Name]
		if !slices.ContainsFunc(doors, func(d door) bool { return d.protocol == pub.Service.Protocol }) {
			s.by[pub.Service.Name] = append(doors, door{pub.Service.Protocol, pub.Port, called})
		}
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

// Port is where the application serves a service by the first of these protocols that it serves it by, announced or not, whatever its group and
// version, for who has a call of it.
func (p *Publisher) Port(service string, protocols ...string) (port int, ok bool) {
	_, port, ok = p.Door(service, protocols...)
	return port, ok
}

// Door is Port, and which of the protocols that is.
func (p *Publisher) Door(service string, protocols ...string) (protocol string, port int, ok bool) {
	doors := p.served.Load().by[service]
	for _, protocol := range protocols {
		for i := range doors {
			if d := &doors[i]; d.protocol == protocol {
				if d.called != nil {
					d.called.Store(time.Now().UnixNano())
				}
				return protocol, d.port, true
			}
		}
	}
	return "", 0, false
}

// Serves tells whether the application serves a service, announced or not.
func (p *Publisher) Serves(service string) bool {
	_, ok := p.served.Load().by[service]
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
