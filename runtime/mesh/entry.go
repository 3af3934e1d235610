package mesh

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// update takes over what the source says of the service now.
func (e *Entry) update(all []Instance) {
	d := e.directory
	e.wake(func(now *Snapshot) *Snapshot {
		before := make(map[string]*Endpoint, len(now.Endpoints)+len(now.Held))
		for _, list := range [...][]*Endpoint{now.Endpoints, now.Held} {
			for _, p := range list {
				before[p.instance.Address] = p
			}
		}
		had := len(before)
		next := &Snapshot{Known: true, Endpoints: make([]*Endpoint, 0, len(all))}
		for i := range all {
			next.Endpoints = append(next.Endpoints, e.carry(before[all[i].Address], &all[i]))
		}
		for i := range all {
			delete(before, all[i].Address)
		}
		if d.Hold > 0 && now.Known && !now.Stale && incredible(had, len(all)) {
			next.Held = slices.SortedFunc(maps.Values(before), func(a, b *Endpoint) int {
				return strings.Compare(a.instance.Address, b.instance.Address)
			})
		}
		switch {
		case len(next.Held) > 0 && len(now.Held) == 0:
			d.log.Warn("the registry drops most instances of a service at once: calls go on to those that can be connected until it stays so",
				"service", e.Service.String(), "had", had, "has", len(all), "for", d.Hold)
			e.hold(d.Hold)
		case len(next.Held) == 0 && len(now.Held) > 0:
			e.release.Stop()
		}
		return next
	})
	d.saved.drop(e.Service)
}

// Of so many instances and more, it is not to be believed that more than half go at once; of any, that all do.
const crowd = 4

func incredible(had, have int) bool {
	return had > 0 && have == 0 || had >= crowd && 2*have < had
}

// hold has the dropped instances let go of after a while. e.mu is held.
func (e *Entry) hold(long time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(long, func() {
		e.wake(func(now *Snapshot) *Snapshot {
			if e.release != timer || len(now.Held) == 0 {
				return now
			}
			e.directory.log.Warn("it is confirmed that the instances are gone", "service", e.Service.String(), "gone", len(now.Held))
			return &Snapshot{Known: now.Known, Stale: now.Stale, Err: now.Err, Endpoints: now.Endpoints}
		})
	})
	e.release = timer
}

// letGo ends the timer.
func (e *Entry) letGo() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.release != nil {
		e.release.Stop()
	}
}

// unreachable is told of an endpoint that cannot be connected: that confirms what the source says of one that is held.
func (e *Entry) unreachable(p *Endpoint) {
	if len(e.Snapshot().Held) == 0 {
		return
	}
	e.wake(func(now *Snapshot) *Snapshot {
		i := slices.IndexFunc(now.Held, p.is)
		if i < 0 {
			return now
		}
		return &Snapshot{Known: now.Known, Stale: now.Stale, Err: now.Err, Endpoints: now.Endpoints,
			Held: slices.Delete(slices.Clone(now.Held), i, i+1)}
	})
}

// carry keeps what was learnt of an endpoint whose instance may have changed its weight or labels.
func (e *Entry) carry(old *Endpoint, in *Instance) *Endpoint {
	switch {
	case old == nil:
		return &Endpoint{entry: e, instance: in, tally: &tally{}}
	case old.instance.same(in):
		return old
	}
	return &Endpoint{entry: e, instance: in, tally: old.tally}
}

// is tells whether two endpoints are at one address, whatever else has changed.
func (e *Endpoint) is(other *Endpoint) bool { return e.tally == other.tally }

func (a *Instance) same(b *Instance) bool {
	return a.Address == b.Address && a.Weight == b.Weight && a.Zone == b.Zone && a.Identity == b.Identity && a.Direct == b.Direct &&
		a.Protocol == b.Protocol && maps.Equal(a.Labels, b.Labels)
}

// recall fills in what the disk remembers.
func (e *Entry) recall(s *Snapshot) {
	all := e.directory.saved.find(e.Service)
	if len(all) == 0 {
		return
	}
	s.Known, s.Stale = true, true
	for i := range all {
		s.Endpoints = append(s.Endpoints, e.carry(nil, &all[i]))
	}
	e.directory.log.Warn("the registry does not answer: calls go to the instances that were known before", "service", e.Service.String(), "instances", len(all))
}
