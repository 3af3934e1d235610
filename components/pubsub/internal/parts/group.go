package parts

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// Keeper is what a group needs of its driver.
type Keeper interface {
	// Stir says that there may be something to say to the other members. It does not wait, and is called with the group's lock held.
	Stir()
	// Kept waits until all that was settled is kept, here or by those who have the parts.
	Kept(ctx context.Context) error
	// Left is told that the last session has ended: it waits until all is kept, and the member has left the group.
	Left(ctx context.Context) error
}

// Group is this sidecar's part in a group of a topic: the sessions that share it, and the parts that it has. Safe for concurrent use.
type Group struct {
	keeper Keeper
	ahead  int64

	mu        sync.Mutex
	sessions  []*Session
	turn      int // of sessions
	parts     map[int32]*Part
	order     []*Part // the same
	away      map[Place]*item
	untold    map[Place]Settled // of parts that others have, and may not know
	later     heapOf[*item]     // by due
	timer     *time.Timer
	held      int64 // bytes, about, of items
	member    string
	lease     time.Time // until then no other member has its parts
	leaving   bool      // the last session has ended
	abandoned bool      // nobody waits for that any more
	news      int       // counts what is untold
	ended     error     // of all sessions
}

// New makes the part of a member in a group. It holds about so many bytes of events that are not settled. It must be ended with Stop.
func New(keeper Keeper, member string, ahead int64) *Group {
	g := &Group{keeper: keeper, member: member, ahead: ahead, parts: map[int32]*Part{}, away: map[Place]*item{}, untold: map[Place]Settled{},
		later: heapOf[*item]{less: func(a, b *item) bool { return a.due < b.due }}}
	g.timer = time.AfterFunc(time.Hour, g.bringDue)
	return g
}

// Enter adds a session; nil: the group is being left.
func (g *Group) Enter() *Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leaving || g.ended != nil {
		return nil
	}
	s := &Session{g: g, flying: map[uint64]*item{}, news: make(chan struct{}, 1), full: time.Now()}
	g.sessions = append(g.sessions, s)
	g.keeper.Stir()
	return s
}

// dispatch hands out what can be. The caller holds mu.
func (g *Group) dispatch() {
	if !time.Now().Before(g.lease) {
		return
	}
	for more := true; more; {
		more = false
		for _, p := range g.order {
			if p.offered || len(p.ready.list) == 0 {
				continue
			}
			if s := g.whoTakes(p.ready.list[0].size); s != nil {
				s.give(p.ready.pop())
				p.dirty, more = true, true
			}
		}
	}
}

// whoTakes finds the next session in turn that waits and has room; nil if there is none.
func (g *Group) whoTakes(size int64) *Session {
	for range g.sessions {
		g.turn = (g.turn + 1) % len(g.sessions)
		if s := g.sessions[g.turn]; s.waits && s.room.Messages > 0 && s.room.Bytes >= size {
			return s
		}
	}
	return nil
}

// bringDue is for those whose delay is over.
func (g *Group) bringDue() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now().UnixMilli()
	for len(g.later.list) > 0 && g.later.list[0].due <= now {
		if it := g.later.pop(); it.part != nil && !it.away {
			it.due = 0
			it.part.ready.push(it)
			it.part.dirty = true
		}
	}
	g.setTimer()
	g.dispatch()
}

// setTimer has bringDue called when the next one is due. The caller holds mu.
func (g *Group) setTimer() {
	if len(g.later.list) > 0 {
		g.timer.Reset(time.Until(time.UnixMilli(g.later.list[0].due)))
	}
}

// settle takes what became of a delivery. The caller holds mu.
func (g *Group) settle(it *item, o pubsub.Outcome, delay time.Duration) {
	it.session = nil
	if it.part == nil && !it.away {
		return
	}
	if o == pubsub.Returned {
		it.attempts--
	}
	it.due = 0
	if delay > 0 {
		it.due = time.Now().Add(delay + time.Millisecond - 1).UnixMilli()
	}
	s := Settled{Member: g.member, Part: it.id, Offset: it.offset, Again: o != pubsub.Done, Attempts: it.attempts, Due: it.due}
	if it.away {
		delete(g.away, Place{it.id, it.offset})
		g.tell(s)
		return
	}
	if it.part.offered {
		it.part.since[it.offset] = s
	}
	it.part.dirty = true
	if o == pubsub.Done {
		it.part.finish(it)
		return
	}
	it.part.begin(it)
}

// resume has parts read on, once there is room for what is read. The caller holds mu.
func (g *Group) resume() {
	if g.held > g.ahead/2 {
		return
	}
	for _, p := range g.order {
		if p.reading != nil {
			p.reading.Pause(false)
		}
	}
}

// tell has the others told. The caller holds mu.
func (g *Group) tell(s Settled) {
	g.untold[Place{s.Part, s.Offset}] = s
	g.news++
	g.keeper.Stir()
}

func (g *Group) reorder() {
	g.order = g.order[:0:0]
	for _, p := range g.parts {
		g.order = append(g.order, p)
	}
}

// patience is how long a session has no room before others are thought of.
const patience = 2 * time.Second

// Weight counts the sessions that can take something, or may soon: those that are new.
func (g *Group) Weight() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sessions {
		if s.room.Messages > 0 || time.Since(s.full) < patience {
			n++
		}
	}
	return n
}

// Leaving tells whether the last session has ended, and whether nobody waits any more until the member has left.
func (g *Group) Leaving() (leaving, abandoned bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leaving, g.abandoned
}

// End ends all sessions with an error.
func (g *Group) End(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = err
	for _, s := range g.sessions {
		poke(s.news)
	}
}

// Stop gives up all parts, for good.
func (g *Group) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.parts {
		p.void()
	}
	clear(g.parts)
	g.reorder()
	g.timer.Stop()
}

// Member is its name in the group.
func (g *Group) Member() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.member
}

// Lease lets the group deliver until a time: so long no other member has its parts.
func (g *Group) Lease(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lease = until
	g.dispatch()
}

// Untold are the ends of deliveries whose parts others have; the number grows when there are more.
func (g *Group) Untold() (all map[Place]Settled, news int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.untold), g.news
}
