package nats

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// membership is what the group's goroutine knows of its place among the others.
type membership struct {
	held     map[int32]*hold
	told     map[int32]told   // what it has written of parts that others have
	released map[int32]uint64 // sequence with which it has let a part go
	waiting  []*ask
	serial   uint64
	weight   int       // that was announced
	beatAt   time.Time // the last heartbeat that has arrived was sent
	heard    time.Time // when its own last heartbeat was seen
	heardOf  uint64    // its sequence
	contact  time.Time // since when that is so, without a gap
	keptAt   time.Time
	cleanAt  time.Time
	founded  bool
}

// hold is a part that it has.
type hold struct {
	id       int32
	part     *parts.Part
	sequence uint64 // of its record
	serial   uint64 // of what was written last, or may have been
}

// told is what stands in the record of what was told.
type told struct{ body []byte }

// step does all that is to be done now. It can be broken off anywhere, and begun again.
func (g *group) step(ctx context.Context) (left bool, err error) {
	all, last, ready := g.view.look()
	if err := g.beat(ctx); err != nil || !ready {
		return false, err
	}
	o, there := all["g"].value.(origin)
	if !there || g.doubted.Load() {
		return false, g.found(ctx, all, o, there)
	}
	g.founded = true
	g.born.Store(o.Born)
	members := g.living(all)
	g.compare(all, last, o)
	g.hear(all, members)
	complete, err := g.balance(ctx, all, o, members)
	if err != nil {
		return false, err
	}
	if err := g.flush(ctx); err != nil {
		return false, err
	}
	if err := g.tell(ctx); err != nil {
		return false, err
	}
	g.clean(ctx, all, members)
	return g.answer(ctx, all["g"], o, complete)
}

// beat says that it is there. After a time in which others may have taken its parts it first makes sure of those.
func (g *group) beat(ctx context.Context) error {
	sent := time.Now()
	if sent.Sub(g.beatAt) < g.d.opts.Heartbeat {
		return nil
	}
	weight := g.Weight()
	if _, err := g.put(ctx, memberName(g.Member()), pack(presence{weight}), anything); err != nil {
		return err
	}
	if !g.beatAt.IsZero() && time.Since(g.beatAt) > g.d.opts.SessionTimeout {
		g.Return()
		err := each(g.held, func(h *hold) error { return g.write(ctx, h, h.part.Change(), g.Member()) }, func(h *hold) { g.Void(h.part); delete(g.held, h.id) })
		if err != nil {
			return err
		}
	}
	g.beatAt, g.weight = sent, weight
	g.Lease(sent.Add(g.d.opts.SessionTimeout))
	return nil
}

// found makes a group that is new, or whose stream is not what it was.
func (g *group) found(ctx context.Context, all map[string]record, o origin, there bool) error {
	info, err := g.d.conn.look(ctx, g.topic.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		g.d.conn.forget(g.topic.stream)
		if _, err = g.d.conn.topic(ctx, g.of); err == nil {
			info, err = g.d.conn.look(ctx, g.topic.stream)
		}
	}
	if err != nil {
		return err
	}
	next := int64(0)
	for _, h := range g.held {
		next = max(next, h.part.Next())
	}
	first, end, born := int64(max(info.State.FirstSeq, 1)), int64(info.State.LastSeq)+1, info.Created.UnixNano()
	if there && o.Born == born && next <= end {
		g.doubted.Store(false)
		return nil
	}
	made := origin{Low: first, Born: born}
	for _, r := range all {
		if h, ok := r.value.(*holding); ok {
			made.Moved = max(made.Moved, h.progress.Moved+1)
		}
	}
	switch {
	case there:
		made.Moved = max(made.Moved, o.Moved+1)
		fallthrough
	case g.founded:
		g.log.Warn("the server has lost events, or what the group has kept: it begins with the oldest event")
	case !g.earliest:
		made.Low = end
	}
	_, err = g.put(ctx, "g", pack(made), all["g"].sequence)
	if errors.Is(err, errConflict) { // another was faster, and it will be seen
		return nil
	}
	return err
}

// living are the members that are there. One is given up when it has been silent for long in the eyes of one that hears itself all the
// time.
func (g *group) living(all map[string]record) map[string]presence {
	me, patience := g.Member(), g.d.opts.SessionTimeout+g.d.opts.Heartbeat
	if own := all[memberName(me)]; own.sequence > g.heardOf {
		if own.at.Sub(g.heard) > g.d.opts.SessionTimeout/2 {
			g.contact = own.at
		}
		g.heard, g.heardOf = own.at, own.sequence
	}
	members := map[string]presence{me: {g.weight}}
	for name, r := range all {
		if p, ok := r.value.(presence); ok && name != memberName(me) && (r.at.After(g.heard) || g.heard.Sub(latest(r.at, g.contact)) <= patience) {
			members[strings.TrimPrefix(name, "m.")] = p
		}
	}
	return members
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// compare gives up parts that another one has by now, or that are to begin elsewhere.
func (g *group) compare(all map[string]record, last uint64, o origin) {
	rolled := g.view.rolled()
	for id, h := range g.held {
		r := all[partName(id)]
		if now, ok := r.value.(*holding); ok && r.sequence > h.sequence && now.Writer == g.Member() && now.Serial == h.serial {
			h.sequence = r.sequence // it was written, and the answer was lost
		}
		if r.sequence > h.sequence || r.sequence < h.sequence && last >= h.sequence || rolled || h.part.Moved() < o.Moved {
			g.Void(h.part)
			delete(g.held, id)
		}
	}
}

// hear takes in what others tell.
func (g *group) hear(all map[string]record, members map[string]presence) {
	for name, r := range all {
		switch value := r.value.(type) {
		case []parts.Settled:
			for _, s := range value {
				if s.Member != g.Member() {
					g.Tell(s)
				}
			}
		case *holding:
			if id := partID(name); g.held[id] == nil && r.sequence > g.released[id] {
				g.Confirm(id, value.progress)
			}
		}
	}
	there := map[string]bool{}
	for name := range members {
		there[name] = name != g.Member()
	}
	g.Release(there)
	g.Dispatch()
}

// flush writes what has changed, now and then, and at once if somebody waits for that.
func (g *group) flush(ctx context.Context) error {
	if time.Since(g.keptAt) < keepEvery && !slices.ContainsFunc(g.waiting, func(a *ask) bool { return !a.join }) {
		return nil
	}
	changed := map[int32]parts.Change{}
	some := map[int32]*hold{}
	for _, c := range g.Changes(false) {
		if h := g.held[c.Part.ID()]; h != nil && h.part == c.Part {
			changed[h.id], some[h.id] = c, h
		}
	}
	err := each(some, func(h *hold) error {
		err := g.write(ctx, h, changed[h.id], g.Member())
		if err != nil {
			g.Again(changed[h.id])
		}
		if errors.Is(err, errConflict) {
			g.suspect.Store(true)
		}
		return err
	}, nil)
	if err == nil {
		g.keptAt = time.Now()
	}
	return err
}

// write writes how far a part is. Only one write of a part is under way.
func (g *group) write(ctx context.Context, h *hold, c parts.Change, owner string) error {
	state, deflated := c.State.Encode()
	sequence, err := g.put(ctx, partName(h.id), pack(&holding{Owner: owner, Writer: g.Member(), Serial: h.serial + 1, Offset: c.State.Offset, Deflated: deflated, State: state}), h.sequence)
	if !errors.Is(err, errConflict) {
		h.serial++
	}
	if err == nil {
		h.sequence = sequence
	}
	return err
}

// each does something for several parts at the same time. For those that another has written it does something else, one after the other, if that
// is given.
func each(all map[int32]*hold, do func(*hold) error, conflict func(*hold)) error {
	var working sync.WaitGroup
	errs := make(chan error, len(all))
	var mu sync.Mutex
	var lost []*hold
	for _, h := range all {
		working.Go(func() {
			err := do(h)
			if conflict != nil && errors.Is(err, errConflict) {
				mu.Lock()
				defer mu.Unlock()
				lost, err = append(lost, h), nil
			}
			errs <- err
		})
	}
	working.Wait()
	close(errs)
	for _, h := range lost {
		conflict(h)
	}
	var joined []error
	for err := range errs {
		joined = append(joined, err)
	}
	return errors.Join(joined...)
}

// tell writes how deliveries ended of parts that others have.
func (g *group) tell(ctx context.Context) error {
	untold, _ := g.Untold()
	want := map[int32][]parts.Settled{}
	for _, s := range untold {
		want[s.Part] = append(want[s.Part], s)
	}
	for id := range g.told {
		want[id] = append(want[id], nil...)
	}
	for id, list := range want {
		if err := g.tellOf(ctx, id, list); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) tellOf(ctx context.Context, id int32, list []parts.Settled) error {
	var body []byte
	if len(list) > 0 {
		slices.SortFunc(list, func(a, b parts.Settled) int { return cmp.Compare(a.Offset, b.Offset) })
		body = pack(list)
	}
	if bytes.Equal(body, g.told[id].body) {
		return nil
	}
	if _, err := g.put(ctx, toldName(id, g.Member()), body, anything); err != nil {
		return err
	}
	g.told[id] = told{body}
	if body == nil {
		delete(g.told, id)
	}
	return nil
}

// cleanEvery is how often what nobody needs any more is taken away.
const cleanEvery = 30 * time.Second

// clean takes away records of members that have gone.
func (g *group) clean(ctx context.Context, all map[string]record, members map[string]presence) {
	if time.Since(g.cleanAt) < cleanEvery || slices.Min(slices.Collect(maps.Keys(members))) != g.Member() {
		return
	}
	g.cleanAt = time.Now()
	for name, r := range all {
		whose := name[strings.LastIndexByte(name, '.')+1:]
		if _, there := members[whose]; there || name[0] != 'm' && name[0] != 't' {
			continue
		}
		_ = g.d.conn.call(ctx, func(ctx context.Context) error {
			s, err := g.d.conn.js.Stream(ctx, groupsName(g.d.opts.Prefix))
			if err == nil {
				err = s.Purge(ctx, jetstream.WithPurgeSubject(g.base+"."+name), jetstream.WithPurgeSequence(r.sequence+1))
			}
			return err
		})
	}
}
