package local

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// frozenAfter is how much longer than a sidecar, which watches deadlines itself, the machine waits.
const frozenAfter = 5 * time.Second

// app is an application with jobs or sessions.
type app struct {
	key      string
	jobs     int
	waiting  *list.List // of jobs whose firing can be delivered, in the order in which that came about
	sessions []*watcher // the one that is to be served next is the first
}

// watcher is the machine's end of a session. What is not constant is under machine.mu.
type watcher struct {
	app    *app
	prefix string // of keys
	term   time.Duration

	wanted   wanted
	last     *last             // set when it says no more
	room     schedule.Room     // what is left of it; none once it was answered
	claims   map[string]*claim // by position
	queue    []*claim          // that are to be sent
	wake     chan struct{}     // there is something in the queue
	settling sync.WaitGroup
}

// claim is a firing that a session has.
type claim struct {
	job      *job
	session  *watcher
	position string
	attempt  int
	turn     uint64 // in which it was sent
	sent     bool
}

func (m *machine) appOf(key string) *app {
	prefix := key[:prefixEnd(key)]
	a := m.apps[prefix]
	if a == nil {
		a = &app{key: prefix, waiting: list.New()}
		m.apps[prefix] = a
	}
	return a
}

// prefixEnd is where the job's own name begins in C/NAMESPACE/APP/NAME.
func prefixEnd(key string) int {
	slashes := 0
	for i := range len(key) {
		if key[i] == '/' {
			if slashes++; slashes == 3 {
				return i + 1
			}
		}
	}
	return len(key)
}

// tidy forgets an application that has nothing left.
func (m *machine) tidy(a *app) {
	if a.jobs == 0 && len(a.sessions) == 0 {
		delete(m.apps, a.key)
	}
}

// offer gives a firing to a session that has room for it, or lets it wait for one.
func (m *machine) offer(j *job) {
	for i, w := range j.app.sessions {
		if w.takes(j) {
			j.app.sessions = append(slices.Delete(j.app.sessions, i, i+1), w)
			m.give(j, w)
			return
		}
	}
	j.waiting = j.app.waiting.PushBack(j)
	if drop := j.run.Firing.DropAt; drop != 0 && j.tried == 0 {
		m.set(j, &m.onStore, clockTime(drop))
	}
}

func (w *watcher) takes(j *job) bool {
	return w.room.Messages > 0 && w.room.Bytes >= j.size && strings.HasPrefix(j.key, w.prefix)
}

// serve gives a session what waits.
func (m *machine) serve(w *watcher) {
	for e := w.app.waiting.Front(); e != nil && w.room.Messages > 0; {
		j := e.Value.(*job)
		e = e.Next()
		if w.takes(j) {
			m.unplace(j)
			m.give(j, w)
		}
	}
}

func (m *machine) give(j *job, w *watcher) {
	m.claims++
	j.tried++
	c := &claim{job: j, session: w, position: strconv.FormatUint(m.claims, 36), attempt: j.tried}
	j.claim, w.claims[c.position] = c, c
	w.room.Messages--
	w.room.Bytes -= j.size
	w.queue = append(w.queue, c)
	m.set(j, &m.onStore, clockTime(m.space.Now().Add(w.term+frozenAfter)))
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// watch serves a session until its driver has gone or has no more to say.
func (m *machine) watch(ctx context.Context, peer store.Peer[watchIn, watchOut]) error {
	first, err := peer.Recv()
	if err != nil || first.Start == nil {
		return fmt.Errorf("%w: a watch does not begin with its start: %w", components.ErrInvalid, err)
	}
	w := m.join(first.Start)
	defer m.leave(w)
	if err := peer.Send(watchOut{}); err != nil {
		return err
	}
	return store.Listen(ctx, peer, func(in watchIn) { m.hear(w, in) }, func(ctx context.Context) error {
		for {
			select {
			case <-w.wake:
				out, err := m.deliveries(w)
				if err == nil && len(out.Firings) > 0 {
					err = peer.Send(out)
				}
				if err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

func (m *machine) join(s *start) *watcher {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &watcher{app: m.appOf(s.Application), prefix: s.Application + s.Prefix, term: s.Term, claims: map[string]*claim{}, wake: make(chan struct{}, 1)}
	w.app.sessions = append(w.app.sessions, w)
	return w
}

// leave gives back what the session has.
func (m *machine) leave(w *watcher) {
	w.settling.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	a := w.app
	a.sessions = slices.DeleteFunc(a.sessions, func(o *watcher) bool { return o == w })
	for _, c := range w.claims {
		m.giveBack(c)
	}
	m.tidy(a)
}

// giveBack takes a firing from a session. An attempt that nobody there has seen does not count.
func (m *machine) giveBack(c *claim) {
	if last := c.session.last; !c.sent || last != nil && c.turn > last.Turn {
		c.job.tried--
	}
	m.place(c.job)
}

// hear takes what the driver says.
func (m *machine) hear(w *watcher, in watchIn) {
	if in.Wanted != nil {
		m.want(w, in.Wanted)
	}
	if len(in.Settle) > 0 {
		m.settle(w, in.Settle)
	}
	if in.Last != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		w.last = in.Last
	}
}

func (m *machine) want(w *watcher, in *wanted) {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue := w.queue // for what was wanted before
	w.queue, w.room = nil, schedule.Room{}
	for _, c := range queue {
		if w.claims[c.position] == c {
			m.giveBack(c)
		}
	}
	w.wanted, w.room = *in, in.Room
	m.serve(w)
}

// deliveries are the firings in the queue. What they carry is read only now.
func (m *machine) deliveries(w *watcher) (watchOut, error) {
	m.mu.Lock()
	queue, out := w.queue, watchOut{Turn: w.wanted.Turn}
	w.queue = nil
	w.room = schedule.Room{} // until something is wanted anew
	for _, c := range queue {
		c.sent, c.turn = true, out.Turn
	}
	m.mu.Unlock()
	v := m.space.View()
	defer v.Close()
	for _, c := range queue {
		var content content
		ok, err := get(v, c.job.key, contentKey(c.job.key), &content)
		switch {
		case errors.Is(err, components.ErrDamaged):
			m.without(c.job.key, c.job, err)
			continue
		case err != nil:
			return out, err
		case !ok: // it is deleted
			continue
		}
		if f, ok := m.firing(w, c, &content); ok {
			out.Firings = append(out.Firings, f)
		}
	}
	if len(out.Firings) == 0 {
		m.serveAgain(w, out.Turn)
	}
	return out, nil
}

// serveAgain is for when all that was found has gone meanwhile: what is wanted stands unanswered.
func (m *machine) serveAgain(w *watcher, turn uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.wanted.Turn == turn {
		w.room = w.wanted.Room
		m.serve(w)
	}
}

// firing is what a session is told of a firing that it has; false: it has it no more.
func (m *machine) firing(w *watcher, c *claim, content *content) (schedule.Firing, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := c.job
	if w.claims[c.position] != c || content.Serial != j.run.Serial {
		return schedule.Firing{}, false
	}
	f := j.run.Firing
	return schedule.Firing{Position: c.position, ID: firingID(f), Attempt: c.attempt, Scheduled: f.Due, Job: content.job(name(j.key))}, true
}

// firingID differs even from those that a store had of which an older copy was restored.
func firingID(f *firing) string {
	return strconv.FormatUint(f.ID, 36) + "-" + strconv.FormatInt(f.Due.UnixMilli(), 36)
}

// settle does what the driver says became of firings. What has to be written is, in its own time: the end of the session waits
// for that.
func (m *machine) settle(w *watcher, all []schedule.Settlement) {
	wall, now := m.clock.now(), m.space.Now()
	var changes []change
	m.mu.Lock()
	for _, s := range all {
		c := w.claims[s.Position]
		if c == nil {
			continue
		}
		switch s.Outcome {
		case schedule.Done:
			changes = append(changes, c.job.settled(wall, now))
			m.hold(c.job)
		case schedule.Again:
			changes = append(changes, c.job.again(c, now.Add(s.Delay)))
			m.hold(c.job)
		case schedule.Returned:
			c.sent = false
			m.giveBack(c)
		case schedule.Extended:
			m.set(c.job, &m.onStore, clockTime(now.Add(w.term+frozenAfter)))
		}
	}
	m.mu.Unlock()
	if len(changes) > 0 {
		w.settling.Go(func() { m.change(changes) })
	}
}

// again is the run of a job whose firing comes again.
func (j *job) again(c *claim, notBefore db.Time) change {
	r, f := j.run, *j.run.Firing
	f.Attempts, f.NotBefore, f.DropAt = c.attempt, notBefore, 0
	r.Firing = &f
	return j.change(r)
}
