package publish

import (
	"maps"
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
	for _, pub := range p.served() {
		if pub.Service.Name == service && pub.Service.Protocol == protocol {
			return pub.Port, true
		}
	}
	return 0, false
}

// Uses tells whether the application serves anything at a port.
func (p *Publisher) Uses(port int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pub := range p.served() {
		if pub.Port == port {
			return true
		}
	}
	return false
}

// served is all that calls are let in for. p.mu is held.
func (p *Publisher) served() map[key]Publication {
	all := map[key]Publication{}
	for id, d := range p.leaving.served {
		all[id] = d.Publication
	}
	maps.Copy(all, p.declared)
	maps.Copy(all, p.asked)
	return all
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
