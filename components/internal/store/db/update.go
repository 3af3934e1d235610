package db

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	maxBatch      = 1024    // updates of one commit
	maxBatchBytes = 4 << 20 // of one commit, after which no further update joins it
)

// update is one call of Update on its way.
type update struct {
	ctx    context.Context
	prefix []byte
	dur    Durability
	fn     func(*Tx) error
	taken  atomic.Bool // by the writer, or back by its caller
	err    error
	then   []func()
	last   []func()
	ran    chan struct{} // closed when fn has run
	done   chan struct{}
	later  func(error) // is told in place of done, if it is there
}

func (s *Space) update(ctx context.Context, dur Durability, fn func(*Tx) error) *update {
	return &update{ctx: ctx, prefix: s.prefix, dur: dur, fn: fn, ran: make(chan struct{}), done: make(chan struct{})}
}

// Update runs fn alone, on what all updates before it have written, and answers once what fn wrote is as safe as asked. When fn
// fails nothing of it is written and its error is answered. fn must be quick and wait for nothing. If ctx is over before fn has
// begun, it never begins; if it ends later, it is not known whether the update will be there, but fn does not run any more. On a full
// disk it is ErrExhausted with STORE_DISK_FULL, and nothing is written.
func (s *Space) Update(ctx context.Context, dur Durability, fn func(*Tx) error) error {
	d := s.d
	u := s.update(ctx, dur, fn)
	if d.ended.Err() != nil {
		return d.over()
	}
	select {
	case d.queue <- u:
	case <-ctx.Done():
		return ctx.Err()
	case <-d.ended.Done():
		return d.over()
	}
	select {
	case <-u.done:
		return u.err
	case <-ctx.Done():
		u.takeBack()
		return ctx.Err()
	case <-d.failed:
		if !u.takeBack() {
			return unknown(d.over())
		}
		return d.over()
	case <-d.drained:
		select {
		case <-u.done:
			return u.err
		default: // it came when the writer had gone, or the writer went with it
			if !u.takeBack() {
				return unknown(d.over())
			}
			return d.over()
		}
	}
}

// takeBack answers whether the update never begins. One that has begun is waited for until fn has run: what fn reads and writes is its
// caller's.
func (u *update) takeBack() bool {
	if !u.taken.Swap(true) {
		return true
	}
	<-u.ran
	return false
}

// begins tells whether an update may begin. The time is looked at, too: after a process was frozen, the timers of what has
// become too late meanwhile may not have run yet.
func (u *update) begins() error {
	if u.taken.Swap(true) {
		return context.Canceled
	}
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if end, ok := u.ctx.Deadline(); ok && !time.Now().Before(end) {
		return context.DeadlineExceeded
	}
	return nil
}

// run runs one update if it may begin; what it wrote joins the batch if it succeeds.
func (d *DB) run(u *update, b *pebble.Batch) {
	defer close(u.ran)
	if u.err = u.begins(); u.err == nil {
		u.err = d.decide(u, b)
	}
}

func (d *DB) decide(u *update, b *pebble.Batch) error {
	tx := &Tx{d: d, prefix: u.prefix, all: b}
	defer func() { u.last = tx.last }()
	if err := errors.Join(u.fn(tx), tx.failed); err != nil {
		return err
	}
	u.then = tx.then
	if len(tx.writes) > 0 {
		if err := d.full(tx.deletes()); err != nil {
			return err
		}
	}
	for _, w := range tx.writes {
		var err error
		if w.deleted {
			d.reclaim.deleted.Store(true)
			err = b.Delete(w.key, nil)
		} else {
			err = b.Set(w.key, w.value, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// enter brings what is in the journal into the tables. Where the engine cannot, the store has to be opened again.
func (d *DB) enter(b *pebble.Batch) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if err != nil {
			d.fail(err)
			err = unknown(d.over())
		}
	}()
	return b.Commit(pebble.NoSync)
}

// refused is what callers are told of what the journal did not take.
func refused(err error) error {
	var maybe *unsynced
	switch {
	case errors.As(err, &maybe):
		return unknown(err)
	case noRoom(err):
		return fullError(err)
	}
	return components.WithReason(fmt.Errorf("%w: %w", components.ErrUnavailable, err), ReasonFailed)
}

// ReasonOutcomeUnknown is of calls of which it is not known whether they were done.
const ReasonOutcomeUnknown components.Reason = "STORE_OUTCOME_UNKNOWN"

func unknown(why error) error {
	return components.WithReason(fmt.Errorf("%w: it is not known whether this was done: %w", components.ErrUnavailable, why), ReasonOutcomeUnknown)
}

// tidy has the tables brought to the disk, after which the segments of the numbers are not needed any more.
func (d *DB) tidy(numbers []uint64) {
	flushed, err := d.pebble.AsyncFlush()
	if err != nil {
		d.opts.Logger.Warn("the tables cannot be brought to the disk", "err", err)
		return
	}
	d.room.unflushed.Add(int64(len(numbers)))
	d.engage(func() {
		select {
		case <-flushed:
			d.room.unflushed.Add(-int64(len(numbers)))
			d.mu.Lock()
			d.flushed = append(d.flushed, numbers...)
			d.mu.Unlock()
		case <-d.ended.Done():
		}
	})
}

// Tx is an update under way. It is not to be used outside of its function, nor concurrently. Values that go in are the
// Tx's until the update has ended; what comes out is the caller's.
type Tx struct {
	d      *DB
	prefix []byte
	all    *pebble.Batch
	failed error   // of a Scan
	writes []write // in order
	index  map[string]int
	then   []func()
	last   []func()
	clears bool
}

type write struct {
	key, value []byte
	deleted    bool
}

// MakesRoom says that what the update sets is little beside what it deletes: on a full disk it is taken like one that only deletes.
func (t *Tx) MakesRoom() { t.clears = true }

// deletes tells whether it only deletes, or as good as that.
func (t *Tx) deletes() bool {
	if t.clears {
		return true
	}
	for _, w := range t.writes {
		if !w.deleted {
			return false
		}
	}
	return true
}

// Now is the time by the store's clock.
func (t *Tx) Now() Time { return t.d.Now() }

// NextID is greater than every one that was ever answered before in this store. It is never 0.
func (t *Tx) NextID() uint64 { return t.d.lastID.Add(1) }

// Then has fn run when the update is as safe as was asked, before Update answers, on the goroutine that writes: fn must be
// quick. Those of several updates run in the order of the updates.
func (t *Tx) Then(fn func()) { t.then = append(t.then, fn) }

// Finally has fn run before Update answers, after what Then was given, also when nothing was written after all.
func (t *Tx) Finally(fn func()) { t.last = append(t.last, fn) }

// Get answers nil, false for a key that is absent.
func (t *Tx) Get(key []byte) (value []byte, ok bool, err error) {
	key = within(t.prefix, key)
	if i, ok := t.index[string(key)]; ok {
		w := t.writes[i]
		return slices.Clone(w.value), !w.deleted, nil
	}
	return get(t.all, key)
}

// Set sets a key.
func (t *Tx) Set(key, value []byte) { t.put(write{key: within(t.prefix, key), value: value}) }

// Delete removes a key that may be absent.
func (t *Tx) Delete(key []byte) { t.put(write{key: within(t.prefix, key), deleted: true}) }

func (t *Tx) put(w write) {
	if t.index == nil {
		t.index = make(map[string]int, 4)
	}
	if i, ok := t.index[string(w.key)]; ok {
		t.writes[i] = w
		return
	}
	t.index[string(w.key)] = len(t.writes)
	t.writes = append(t.writes, w)
}

// Scan goes over the keys from from to below to, in order, as they were before this update: its own writes are not seen. A to of
// nil means the end. Keys and values are only lent until the next one. If it cannot come to the end, the update fails.
func (t *Tx) Scan(from, to []byte) iter.Seq2[[]byte, []byte] {
	return scan(t.all, t.prefix, from, to, &t.failed)
}
