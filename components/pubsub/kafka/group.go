package kafka

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// group is this sidecar's part in a group of a topic: the sessions that share it, the partitions that it has, and the goroutine that
// is its member of Kafka's group.
type group struct {
	d        *driver
	log      *slog.Logger
	id       string // in Kafka
	topic    string // in Kafka
	earliest bool   // where it begins if it is new
	membership
	asks  chan *ask
	nudge chan struct{} // there may be something to say to the others
	gone  chan struct{} // closed when it has left

	mu        sync.Mutex
	sessions  []*session
	turn      int // of sessions
	parts     map[int32]*part
	order     []*part // the same
	away      map[place]*item
	untold    map[place]settled // of partitions that others have, and may not know
	later     heapOf[*item]     // by due
	timer     *time.Timer
	held      int64 // bytes, about, of items
	member    string
	lease     time.Time // until then no other member has its partitions
	others    bool      // there are members elsewhere
	leaving   bool      // the last session has ended
	abandoned bool      // nobody waits for that any more
	news      int       // counts what is untold
	ended     error     // of all sessions
}

// place is that of an event in its topic.
type place struct {
	partition int32
	offset    int64
}

func newGroup(d *driver, id, topic string, earliest bool) *group {
	g := &group{d: d, log: d.log.With("group", id), id: id, topic: topic, earliest: earliest, asks: make(chan *ask), nudge: make(chan struct{}, 1),
		gone: make(chan struct{}), parts: map[int32]*part{}, away: map[place]*item{}, untold: map[place]settled{},
		later: heapOf[*item]{less: func(a, b *item) bool { return a.due < b.due }}}
	g.timer = time.AfterFunc(time.Hour, g.bringDue)
	return g
}

// dispatch hands out what can be. The caller holds mu.
func (g *group) dispatch() {
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
func (g *group) whoTakes(size int64) *session {
	for range g.sessions {
		g.turn = (g.turn + 1) % len(g.sessions)
		if s := g.sessions[g.turn]; s.waits && s.room.Messages > 0 && s.room.Bytes >= size {
			return s
		}
	}
	return nil
}

// bringDue is for those whose delay is over.
func (g *group) bringDue() {
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
func (g *group) setTimer() {
	if len(g.later.list) > 0 {
		g.timer.Reset(time.Until(time.UnixMilli(g.later.list[0].due)))
	}
}

// settle takes what became of a delivery. The caller holds mu.
func (g *group) settle(it *item, o pubsub.Outcome, delay time.Duration) {
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
	s := settled{Member: g.member, Partition: it.id, Offset: it.offset, Again: o != pubsub.Done, Attempts: it.attempts, Due: it.due}
	if it.away {
		delete(g.away, place{it.id, it.offset})
		g.tell(s)
		return
	}
	if it.part.offered {
		it.part.since[it.offset] = s
	}
	it.part.dirty = true
	if o == pubsub.Done {
		it.part.finish(it)
		g.resume()
		return
	}
	it.part.begin(it)
}

// resume has partitions read on, once there is room for what is read.
func (g *group) resume() {
	if g.held > int64(g.d.opts.Ahead)/2 {
		return
	}
	for _, p := range g.order {
		if p.reading != nil {
			p.reading.pause(false)
		}
	}
}

// drop gives up a partition. What is delivered here stays here, and what was settled since it was offered is to be told. The
// caller holds mu.
func (g *group) drop(p *part) {
	p.reading.stop()
	delete(g.parts, p.id)
	for _, it := range p.items {
		g.held -= it.weight()
		it.part = nil
		if it.session != nil {
			it.away = true
			g.away[place{p.id, it.offset}] = it
		}
	}
	for _, s := range p.since {
		g.tell(s)
	}
	g.reorder()
}

// tell has the others told. The caller holds mu.
func (g *group) tell(s settled) {
	g.untold[place{s.Partition, s.Offset}] = s
	g.news++
	poke(g.nudge)
}

// void has all that is delivered of a partition mean nothing any more.
func (p *part) void() {
	p.reading.stop()
	for _, it := range p.items {
		p.g.held -= it.weight()
		it.part = nil
	}
}

// lose is for a member that the group has gone on without: others may have all that it had.
func (g *group) lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.parts {
		p.void()
	}
	for _, it := range g.away {
		it.away = false
	}
	clear(g.parts)
	clear(g.away)
	clear(g.untold)
	g.reorder()
	g.member = newMember()
	g.lease = time.Time{}
}

func (g *group) reorder() {
	g.order = g.order[:0:0]
	for _, p := range g.parts {
		g.order = append(g.order, p)
	}
}

// withRoom counts the sessions that can take something, or may soon: those that are new.
func (g *group) withRoom() (n int) {
	for _, s := range g.sessions {
		if s.room.Messages > 0 || time.Since(s.full) < patience {
			n++
		}
	}
	return n
}

// patience is how long a session has no room before others are thought of.
const patience = 2 * time.Second

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// end ends all sessions. The caller holds mu.
func (g *group) end(err error) {
	g.ended = err
	for _, s := range g.sessions {
		poke(s.news)
	}
}

// Subscribe implements pubsub.Driver.
func (d *driver) Subscribe(ctx context.Context, s pubsub.Subscription) (pubsub.Session, error) {
	topic := topicName(d.opts.Prefix, s.Topic)
	if _, err := d.conn.partitions(ctx, topic); err != nil {
		return nil, err
	}
	id := groupName(topic, s.Group)
	one := &session{flying: map[uint64]*item{}, news: make(chan struct{}, 1), full: time.Now()}
	for one.g == nil {
		d.mu.Lock()
		g := d.groups[id]
		if g == nil {
			g = newGroup(d, id, topic, s.Earliest)
			d.groups[id] = g
			d.tasks.Go(g.run)
		}
		d.mu.Unlock()
		if g.enter(one) {
			one.g = g
			break
		}
		select { // it is being left
		case <-g.gone:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	limited, cancel := context.WithTimeout(ctx, d.opts.SessionTimeout+3*d.opts.Timeout)
	defer cancel()
	a := &ask{ctx: limited, join: true, done: make(chan error, 1)}
	if !s.ReplayFrom.IsZero() {
		a.move, a.to = true, milliseconds(s.ReplayFrom)
	}
	if err := one.g.ask(a); err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.opts.Timeout)
		defer cancel()
		_ = one.Close(closing)
		return nil, d.conn.failed(ctx, err)
	}
	return one, nil
}

// milliseconds are those of the first time that Kafka can tell and that is not before t.
func milliseconds(t time.Time) int64 {
	ms := max(t.UnixMilli(), 0)
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}

// enter adds a session; false: the group is being left.
func (g *group) enter(s *session) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leaving || g.ended != nil {
		return false
	}
	g.sessions = append(g.sessions, s)
	poke(g.nudge)
	return true
}
