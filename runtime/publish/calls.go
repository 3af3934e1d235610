package publish

import (
	"time"
)

// Port is where the application serves a service, announced or not, for who has a call of it.
func (p *Publisher) Port(service string) (port int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port, ok = p.port(service); ok {
		p.called[service] = time.Now()
		return port, true
	}
	for id, d := range p.leaving.served {
		if id.name == service {
			return d.Port, true
		}
	}
	return 0, false
}

// port is that of what is published. p.mu is held.
func (p *Publisher) port(service string) (port int, ok bool) {
	if pub, ok := p.wanted(key{name: service}); ok {
		return pub.Port, true
	}
	var first key // of its groups, which are all on one port
	for _, some := range [...]map[key]Publication{p.asked, p.declared} {
		for id := range some {
			if id.name == service && (first.name == "" || id.group+id.version < first.group+first.version) {
				first = id
			}
		}
	}
	pub, ok := p.wanted(first)
	return pub.Port, ok
}

// PortBy is where the application serves a service by that protocol, whatever its group and version.
func (p *Publisher) PortBy(service, protocol string) (port int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pub, ok := p.find(func(pub *Publication) bool { return pub.Service.Name == service && pub.Service.Protocol == protocol }); ok {
		return pub.Port, true
	}
	return 0, false
}

// Uses tells whether the application serves anything at a port.
func (p *Publisher) Uses(port int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.find(func(pub *Publication) bool { return pub.Port == port })
	return ok
}

// find is something that calls are let in for. p.mu is held.
func (p *Publisher) find(is func(*Publication) bool) (Publication, bool) {
	for _, pub := range p.asked {
		if is(&pub) {
			return pub, true
		}
	}
	for id, pub := range p.declared {
		if _, over := p.asked[id]; !over && is(&pub) {
			return pub, true
		}
	}
	for id, d := range p.leaving.served {
		if _, again := p.wanted(id); !again && is(&d.Publication) {
			return d.Publication, true
		}
	}
	return Publication{}, false
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
