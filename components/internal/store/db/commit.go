package db

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// underWay is how many groups may be on their way to the disk at once: most disks do two syncs in less than twice the time of one.
const underWay = 2

// group is updates that are committed together. It is in the journal, and in the tables, where those that follow see what it wrote; its
// callers, and views, are told when it and all before it is on the disk.
type group struct {
	updates []*update
	err     error     // why nothing of it was written
	disk    bool      // it is to be on the disk
	mark    mark      // up to there
	view    *snapshot // what the tables had with it; nil: it wrote nothing
	hand    int       // of the journal, with which it is synced
	safe    bool      // as far as it is to be
}

// writer is the one goroutine that writes.
type writer struct {
	*DB
	waiting []*update // those that none has begun yet
	groups  []*group  // under way, in order; the first is being synced
	synced  chan syncEnd
}

type syncEnd struct {
	g   *group
	err error
}

func (d *DB) write() {
	defer close(d.drained)
	w := &writer{DB: d, synced: make(chan syncEnd, underWay)}
	for d.ended.Err() == nil {
		queue := d.queue
		if len(w.groups) == underWay || len(w.waiting) == maxBatch {
			queue = nil // they wait there as well
		}
		select {
		case u := <-queue:
			w.take(u)
		case end := <-w.synced:
			w.landed(end)
		case <-d.tables.outputs.behind.moved:
		case <-d.ended.Done():
		}
		for w.mayBegin() {
			w.begin()
		}
	}
	for len(w.groups) > 0 {
		w.landed(<-w.synced)
	}
	w.refuse()
}

// refuse answers those that will never begin.
func (w *writer) refuse() {
	for {
		for _, u := range w.waiting {
			if u.err = w.over(); u.later == nil { // else forsake answers
				close(u.done)
			}
		}
		w.waiting = w.waiting[:0]
		select {
		case u := <-w.queue:
			w.take(u)
		default:
			return
		}
	}
}

// take takes an update, and what else waits in the queue.
func (w *writer) take(u *update) {
	w.waiting = append(w.waiting, u)
	for len(w.waiting) < maxBatch {
		select {
		case u := <-w.queue:
			w.waiting = append(w.waiting, u)
		default:
			return
		}
	}
}

// mayBegin tells whether those that wait are a group. While one is under way they are only when they are as many: so the two are of
// one size, and no sync is made for a few that the next could have taken along.
func (w *writer) mayBegin() bool {
	switch n := len(w.groups); {
	case w.ended.Err() != nil: // the tables may have what is lost by now
		return false
	case len(w.waiting) == 0 && len(w.queue) == 0:
		return false
	case w.tables.outputs.behind.holds():
		return false
	case n == 0:
		return true
	default:
		return n < min(underWay, len(w.journal.hands)) && len(w.waiting) >= len(w.groups[0].updates) && !w.journal.ends()
	}
}

// begin runs those that wait, and commits them together.
func (w *writer) begin() {
	b := w.pebble.NewIndexedBatch()
	defer b.Close()
	g := &group{}
	for n := 0; n < maxBatch && b.Len() < maxBatchBytes; n++ {
		if n == len(w.waiting) {
			select {
			case u := <-w.queue:
				w.take(u)
			default:
			}
		}
		if n == len(w.waiting) {
			break
		}
		u := w.waiting[n]
		w.run(u, b)
		g.updates = append(g.updates, u)
		g.disk = g.disk || u.dur != OS && u.err == nil
	}
	w.waiting = slices.Delete(w.waiting, 0, len(g.updates))
	if b.Count() == 0 {
		g.disk = false
	} else {
		g.err = w.apply(g, b)
	}
	w.groups = append(w.groups, g)
	if !g.disk || g.err != nil {
		g.safe = true
		w.tell()
		return
	}
	if g.hand = 0; len(w.groups) > 1 {
		g.hand = 1 - w.groups[0].hand
	}
	file := w.journal.hands[g.hand]
	go func() { w.synced <- syncEnd{g, file.SyncData()} }()
}

// apply writes a group into the journal and the tables.
func (w *writer) apply(g *group, b *pebble.Batch) error {
	j := w.journal
	w.mu.Lock()
	j.obsolete(w.flushed)
	w.flushed = nil
	w.mu.Unlock()
	if err := j.ready(); err != nil {
		return refused(err)
	}
	reserved, err := w.reserveIDs(b)
	if err = errors.Join(err, b.Set(keySequence, binary.BigEndian.AppendUint64(nil, j.next), nil), w.noteTime(b)); err != nil {
		return err
	}
	g.mark, err = j.commit(b.Repr())
	w.tables.wrote.Add(int64(b.Len()))
	if err != nil {
		return refused(err)
	}
	g.disk = g.disk || reserved != w.reserved
	w.reserved = reserved // on the disk when any that is given out from now on is told
	if err := w.enter(b); err != nil {
		return err
	}
	g.view = w.now()
	if len(j.old) > 0 {
		w.tidy(j.old)
		j.old = nil
	}
	return nil
}

// landed is told how a sync has ended.
func (w *writer) landed(end syncEnd) {
	if end.err != nil {
		w.lost(end.err)
		return
	}
	end.g.safe = true
	w.tell()
}

// lost is what is done when a sync has failed. What waits for it is in the tables, and may be lost with the power: nobody may go on from
// that. So the store has to be opened again, which has what can be read on the disk before anything else.
func (w *writer) lost(why error) {
	groups := w.groups
	w.groups = nil
	for _, g := range groups {
		g.err = unknown(&unsynced{why})
		for _, u := range g.updates {
			u.err = nil // it may have been refused for what is lost
		}
		w.answer(g)
	}
	w.giveUp(&unsynced{why}, true)
}

// tell answers those groups that are safe, and all before them.
func (w *writer) tell() {
	for len(w.groups) > 0 && w.groups[0].safe {
		g := w.groups[0]
		w.groups = slices.Delete(w.groups, 0, 1)
		if g.err == nil && g.disk {
			w.journal.reached(g.mark)
		}
		w.answer(g)
		if g.err == nil && g.disk && len(w.groups) == 0 && len(w.waiting) == 0 && len(w.queue) == 0 {
			w.journal.seal()
		}
	}
}

// answer tells the callers of a group how it ended.
func (w *writer) answer(g *group) {
	switch {
	case g.view == nil:
	case g.err == nil:
		w.publish(g.view)
		w.stats.count(len(g.updates))
	default:
		g.view.release()
	}
	var later []*update
	for _, u := range g.updates {
		if u.err == nil {
			u.err = g.err
		}
		if u.err == nil {
			for _, then := range u.then {
				then()
			}
		}
		for _, last := range u.last {
			last()
		}
		if u.later != nil {
			later = append(later, u)
		} else {
			close(u.done)
		}
	}
	if later = w.laters.take(later); len(later) > 0 {
		w.writing.Go(func() {
			for _, u := range later {
				u.later(u.err)
			}
		})
	}
}
