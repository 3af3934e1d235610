package publish

import (
	"context"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

const (
	leaveTime  = 8 * time.Second // that Leave may take: SOFARPC waits 15 s for the answer, and the listener ends what it is asked after 10 s
	calledTime = time.Minute     // a service that was not called for so long is taken to have no callers
	pauseTime  = 10 * time.Second
)

// departure is a publication that was taken back and is served on.
type departure struct {
	Publication
	over chan struct{} // closed when it is not any more
}

// leaving is all of these, and how far the application has got with them.
type leaving struct {
	served map[key]*departure

	// A run of services that are left one after the other, with less than pauseTime in between.
	began, ended time.Time
}

// wait is how long who calls has to hear of it: each, or what the run has left of all. p.mu is held.
func (l *leaving) wait(each, all time.Duration) time.Duration {
	now := time.Now()
	if now.Sub(l.ended) > pauseTime {
		l.began = now
	}
	wait := max(0, min(each, l.began.Add(all).Sub(now)))
	l.ended = now.Add(wait)
	return wait
}

// Leave is Unpublish for an application that serves until it is answered. The service is taken out of the registry at once, and is kept as taken
// back, but calls of those who have not heard of it yet reach the application until Leave returns: after each, counted from when the registry has
// heard, and 8 s at most. It does not wait if ctx ends, for a service that was not called for a minute, nor longer than all for services that are
// left one after the other. What is published again meanwhile stays. Who asks a second time is answered with the first.
func (p *Publisher) Leave(ctx context.Context, s mesh.Service, each, all time.Duration) error {
	mine := map[key]*departure{}
	var others []*departure
	var keepers []*keeper
	var wait time.Duration
	err := p.ask(func(asked map[key]Publication) error {
		for id, d := range p.leaving.served {
			if _, again := asked[id]; !again && means(s, d.Service) {
				others = append(others, d)
			}
		}
		for id, pub := range asked {
			if _, stands := p.declared[id]; !means(s, pub.Service) || stands || !p.calledLately(id.name) {
				continue
			}
			mine[id] = &departure{pub, make(chan struct{})}
			if k := p.keepers[id]; k != nil {
				keepers = append(keepers, k)
			}
		}
		p.serveOn(mine) // what is asked for goes before it: it counts when the file is written
		if len(mine) > 0 {
			wait = p.leaving.wait(each, all)
		}
		takeBack(asked, s)
		return nil
	})
	defer p.left(mine)
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	for _, d := range others {
		if !within(limit, d.over) {
			return nil
		}
	}
	if wait == 0 {
		return nil
	}
	for _, k := range keepers {
		if !within(limit, k.ended) {
			return nil
		}
	}
	select {
	case <-time.After(wait):
	case <-limit.Done():
	}
	return nil
}

// within waits for an event, and tells whether it came before the limit.
func within(limit context.Context, event <-chan struct{}) bool {
	select {
	case <-event:
		return true
	case <-limit.Done():
		return false
	}
}

// calledLately tells whether a service was called, or may have been: by whom a sidecar that ended before this one knew. p.mu is held.
func (p *Publisher) calledLately(service string) bool {
	last := p.began
	if at := p.called[service]; at != nil && at.Load() != 0 {
		last = time.Unix(0, at.Load())
	}
	return time.Since(last) <= calledTime
}

// serveOn has those served on, in place of what was left before under their keys. p.mu is held.
func (p *Publisher) serveOn(all map[key]*departure) {
	for id, d := range all {
		p.stopServing(id)
		p.leaving.served[id] = d
	}
}

// stopServing ends a departure, if there is one. p.mu is held.
func (p *Publisher) stopServing(id key) {
	if d := p.leaving.served[id]; d != nil {
		close(d.over)
		delete(p.leaving.served, id)
	}
}

// left ends what one Leave began, but not what a later one has.
func (p *Publisher) left(all map[key]*departure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, d := range all {
		if p.leaving.served[id] == d {
			p.stopServing(id)
		}
	}
	p.index()
}
