package mesh

import (
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// subset are endpoints that calls can be spread over, by weight; never empty.
type subset struct {
	endpoints []*Endpoint // those of weight 0 left out
	ends      []int       // sums of the weights up to each endpoint's; nil: all weigh the same
	total     int         // of the weights; of all that weigh the same, how many they are
	step      int         // prime to total: with it the turns go through all of it in each round, and jump about
	turn      atomic.Uint64
}

// newSubset answers nil if no endpoint has a weight.
func newSubset(all []*Endpoint, fits func(*Instance) bool) *subset {
	s := &subset{}
	same := true
	for _, e := range all {
		if e.instance.Weight > 0 && fits(e.instance) {
			s.endpoints = append(s.endpoints, e)
			same = same && e.instance.Weight == s.endpoints[0].instance.Weight
		}
	}
	if s.endpoints == nil {
		return nil
	}
	if s.total = len(s.endpoints); !same {
		s.ends, s.total = make([]int, len(s.endpoints)), 0
		for i, e := range s.endpoints {
			s.total += e.instance.Weight
			s.ends[i] = s.total
		}
	}
	s.step = 1
	if s.ends != nil {
		for s.step = max(s.total*618/1000, 1); gcd(s.step, s.total) != 1; s.step++ {
		}
	}
	s.turn.Store(uint64(rand.Uint32())) // so that not all sidecars begin with the same
	return s
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (s *subset) at(i int) *Endpoint {
	if s.ends == nil {
		return s.endpoints[i]
	}
	return s.endpoints[sort.SearchInts(s.ends, i+1)]
}

// next is the endpoint whose turn it is.
func (s *subset) next() *Endpoint {
	return s.at(int(s.turn.Add(1) * uint64(s.step) % uint64(s.total)))
}

func (s *subset) draw() *Endpoint { return s.at(rand.IntN(s.total)) }

const draws = 8 // before all endpoints are looked at

// choose takes one of the usable endpoints: in turn, or of two by chance the one with less to do. nil: none is usable.
func (s *subset) choose(balance string, usable func(*Endpoint) bool) *Endpoint {
	var one *Endpoint
	for range draws {
		var e *Endpoint
		if balance == RoundRobin {
			e = s.next()
		} else {
			e = s.draw()
		}
		switch {
		case !usable(e):
		case balance == RoundRobin:
			return e
		case one == nil:
			one = e
		case e.load() < one.load():
			return e
		default:
			return one
		}
	}
	if one != nil {
		return one
	}
	from := rand.IntN(len(s.endpoints))
	for i := range s.endpoints {
		if e := s.endpoints[(from+i)%len(s.endpoints)]; usable(e) {
			return e
		}
	}
	return nil
}

// sets are the subsets of a snapshot that the policies in force ask for, made when they are first needed.
type sets struct {
	policies *policies
	made     sync.Map // setKey -> *subset, nil if it would be empty
}

type setKey struct {
	share     *Share     // nil: all labels
	migration *Migration // nil: both sides
	direct    bool       // of the sides
}

// subset finds the endpoints of a share, on one side of a migration.
func (s *Snapshot) subset(p *policies, key setKey) *subset {
	if key == (setKey{}) {
		return s.entire()
	}
	all := s.sets.Load()
	if all == nil || all.policies != p {
		all = &sets{policies: p}
		s.sets.Store(all)
	}
	if made, ok := all.made.Load(key); ok {
		return made.(*subset)
	}
	made, _ := all.made.LoadOrStore(key, newSubset(s.both(), key.fits))
	return made.(*subset)
}

// entire is the subset of all endpoints, whatever the policies are: what most calls ask for.
func (s *Snapshot) entire() *subset {
	if made := s.whole.Load(); made != nil {
		return made
	}
	s.whole.CompareAndSwap(nil, newSubset(s.both(), setKey{}.fits))
	return s.whole.Load()
}

// both are the endpoints with those that are held.
func (s *Snapshot) both() []*Endpoint {
	if len(s.Held) == 0 {
		return s.Endpoints
	}
	return slices.Concat(s.Endpoints, s.Held)
}

func (k setKey) fits(in *Instance) bool {
	if k.share != nil && !k.share.fits(in) {
		return false
	}
	if k.migration == nil {
		return true
	}
	if in.Direct || k.direct {
		return in.Direct && k.direct
	}
	return len(k.migration.Instances) == 0 || slices.Contains(k.migration.Instances, in.Address)
}
