package mesh

import (
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
)

// services are entries by their services. Who looks one up takes no lock: each part is a map that is replaced as a whole when a service comes or goes.
// Of thousands of services most are in no cache of the processor's, and a map is fewer reads of memory, one after the other, than a trie.
type services struct {
	seed  maphash.Seed
	parts [64]struct {
		mu  sync.Mutex // of those that replace it
		all atomic.Pointer[map[Service]*Entry]
	}
}

func newServices() *services {
	s := &services{seed: maphash.MakeSeed()}
	for i := range s.parts {
		s.parts[i].all.Store(&map[Service]*Entry{})
	}
	return s
}

func (s *services) part(of Service) int {
	return int(maphash.String(s.seed, of.Name) % uint64(len(s.parts)))
}

// find answers nil if there is none.
func (s *services) find(of Service) *Entry { return (*s.parts[s.part(of)].all.Load())[of] }

// add puts e in, or answers the one that is there.
func (s *services) add(e *Entry) *Entry {
	p := &s.parts[s.part(e.Service)]
	p.mu.Lock()
	defer p.mu.Unlock()
	old := *p.all.Load()
	if there := old[e.Service]; there != nil {
		return there
	}
	next := maps.Clone(old)
	next[e.Service] = e
	p.all.Store(&next)
	return e
}

func (s *services) remove(of Service) {
	p := &s.parts[s.part(of)]
	p.mu.Lock()
	defer p.mu.Unlock()
	next := maps.Clone(*p.all.Load())
	delete(next, of)
	p.all.Store(&next)
}

// each calls f with all that there are, in no order, until it answers false. f may add and remove some.
func (s *services) each(f func(*Entry) bool) {
	for i := range s.parts {
		for _, e := range *s.parts[i].all.Load() {
			if !f(e) {
				return
			}
		}
	}
}
