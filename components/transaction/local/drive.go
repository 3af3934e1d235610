package local

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
)

const (
	writeAgain = time.Second           // after a write that failed, before the same is tried again
	noteAfter  = 20 * time.Millisecond // that a call was OK is written so late: most transactions have ended before
)

// coordinator is a driver's session: what it drives, and how it calls.
type coordinator struct {
	d      *driver
	call   transaction.Caller
	stream store.Stream[driveIn, driveOut]

	sending sync.Mutex
	running sync.WaitGroup
	mine    map[string]*driven // by key; of the goroutine that receives
}

// driven is a transaction that this process drives.
type driven struct {
	stop context.CancelFunc
	over chan struct{} // closed when no call of it is under way any more
}

// Drive joins those who drive the application's transactions. When ctx ends the calls under way are cancelled: what became of them
// another one finds out.
func (d *driver) Drive(ctx context.Context, application string, call transaction.Caller) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stream, err := driveCall.Open(life, d.Link)
	if err != nil {
		return err
	}
	c := &coordinator{d: d, call: call, stream: stream, mine: map[string]*driven{}}
	defer stream.Close()
	defer context.AfterFunc(ctx, stream.Close)()
	err = c.drive(life, application)
	d.session.Store(0)
	end()
	c.running.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: driving has ended: %w", components.ErrUnavailable, err)
}

func (c *coordinator) drive(ctx context.Context, application string) error {
	if err := c.send(driveIn{Start: &driveStart{Application: c.d.name + application, Lease: c.d.options.Lease}}); err != nil {
		return err
	}
	first, err := c.stream.Recv()
	if err != nil {
		return err
	}
	c.d.drives.Store(&application)
	c.d.session.Store(first.Session)
	beats, still := context.WithCancel(ctx)
	defer still()
	c.running.Go(func() { c.beat(beats) })
	for {
		out, err := c.stream.Recv()
		if err != nil {
			return err
		}
		for i := range out.Work {
			c.take(ctx, &out.Work[i])
		}
	}
}

func (c *coordinator) send(in driveIn) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.stream.Send(in)
}

// beat keeps the lease. A process that is frozen does not.
func (c *coordinator) beat(ctx context.Context) {
	tick := time.NewTicker(c.d.options.Lease / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if c.send(driveIn{}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// take begins to drive what was given, once no call is under way any more of how it was before.
func (c *coordinator) take(ctx context.Context, w *work) {
	failpoint.Hit("local.given", "")
	before := c.mine[w.Key]
	if before != nil {
		before.stop()
	}
	if w.Run.State.Final() {
		delete(c.mine, w.Key)
		return
	}
	if len(c.mine) > 1<<10 {
		c.tidy()
	}
	ctx, stop := context.WithCancel(ctx)
	now := &driven{stop: stop, over: make(chan struct{})}
	c.mine[w.Key] = now
	one := &drive{c: c, tx: &tx{key: w.Key, content: w.Content, run: w.Run}, epoch: w.Epoch, at: w.Now, since: time.Now(), results: make(chan result)}
	c.running.Go(func() {
		defer close(now.over)
		defer stop()
		if before != nil {
			<-before.over
		}
		one.steer(ctx)
	})
}

// tidy forgets what has ended.
func (c *coordinator) tidy() {
	for key, d := range c.mine {
		select {
		case <-d.over:
			delete(c.mine, key)
		default:
		}
	}
}

// drive is one transaction under way.
type drive struct {
	c        *coordinator
	tx       *tx
	epoch    uint64
	revision uint64
	at       db.Time // what the store's clock showed
	since    time.Time

	underWay map[int]bool // calls, by their places
	results  chan result
	unsaid   time.Time // since when there is progress that was not written; zero: there is none
}

type result struct {
	call call
	err  error
}

func (d *drive) now() db.Time { return d.at.Add(time.Since(d.since)) }

// steer drives until the transaction has ended, or another one is to.
func (d *drive) steer(ctx context.Context) {
	calls, cancel := context.WithCancel(ctx)
	defer d.settle()
	defer cancel()
	d.underWay = map[int]bool{}
	for {
		if before := d.tx.State; d.tx.advance(d.now()) {
			if !d.decided(ctx, before) || d.tx.State.Final() {
				return
			}
		}
		wait, timed := d.begin(calls)
		if left := time.Until(d.unsaid.Add(noteAfter)); !d.unsaid.IsZero() && (!timed || left < wait) {
			wait, timed = left, true
		}
		if !d.await(ctx, wait, timed) {
			return
		}
		if !d.unsaid.IsZero() && time.Since(d.unsaid) >= noteAfter {
			d.note()
		}
	}
}

// settle waits for the calls under way, whose context has ended.
func (d *drive) settle() {
	for len(d.underWay) > 0 {
		r := <-d.results
		delete(d.underWay, r.call.at)
	}
}

// begin makes the calls whose time has come, and says how long it is until that of the next one, or until the deadline.
func (d *drive) begin(ctx context.Context) (wait time.Duration, timed bool) {
	now := d.now()
	next := func(at db.Time) {
		if left := max(at.Sub(now), 0); !timed || left < wait {
			wait, timed = left, true
		}
	}
	for _, c := range d.tx.calls() {
		switch {
		case d.underWay[c.at]:
		case c.after > now:
			next(c.after)
		default:
			d.make(ctx, c)
		}
	}
	if d.tx.State == transaction.Running || d.tx.State == transaction.Prepared && d.tx.Kind == transaction.TCC {
		next(d.tx.Deadline)
	}
	return wait, timed
}

// make makes one call.
func (d *drive) make(ctx context.Context, c call) {
	d.underWay[c.at] = true
	p, branch := d.tx.progress(c.at), transaction.CheckBranch
	if c.at != checks {
		branch = d.tx.content.Branches[c.at].ID
	}
	in := &transaction.Call{GID: told(d.tx.key), Kind: d.tx.Kind, Branch: branch, Op: c.op, Attempt: p.Attempts + 1, Target: *c.target, Trace: d.tx.content.Trace}
	within := d.tx.Policy.CallTimeout
	d.c.running.Go(func() {
		d.results <- result{c, d.c.one(ctx, in, within)}
	})
}

// one waits for one of the places.
func (c *coordinator) one(ctx context.Context, in *transaction.Call, within time.Duration) error {
	select {
	case c.d.places <- struct{}{}:
		defer func() { <-c.d.places }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	failpoint.Hit("local.call", in.Op)
	err := c.call(ctx, in)
	failpoint.Hit("local.answered", in.Op)
	return err
}

// await waits until there is something to do; false: nothing is to be done here any more.
func (d *drive) await(ctx context.Context, wait time.Duration, timed bool) bool {
	var over <-chan time.Time
	if timed {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case r := <-d.results:
		delete(d.underWay, r.call.at)
		if ctx.Err() != nil {
			return false
		}
		d.tx.came(r.call, r.err, d.now())
		if r.err != nil {
			d.note()
		} else if d.unsaid.IsZero() {
			d.unsaid = time.Now()
		}
		return true
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}

func (d *drive) write(dur db.Durability) writeIn {
	d.revision++
	d.unsaid = time.Time{}
	r := d.tx.run
	r.Branches = append([]progress(nil), r.Branches...)
	return writeIn{Key: d.tx.key, Epoch: d.epoch, Revision: d.revision, Run: r, Durability: dur}
}

// note writes progress, and does not wait: what is lost of it is done again. When the state is about to change that is written
// instead.
func (d *drive) note() {
	ahead := &tx{key: d.tx.key, content: d.tx.content, run: d.tx.run}
	ahead.run.Branches = append([]progress(nil), ahead.run.Branches...)
	if ahead.advance(d.now()) {
		return
	}
	w := d.write(db.OS)
	_ = d.c.send(driveIn{Write: &w})
	failpoint.Hit("local.noted", "")
}

// decided writes a change of state, and waits for it; false: that is not for this process any more.
func (d *drive) decided(ctx context.Context, before transaction.State) bool {
	dur := d.c.d.durability()
	if before == transaction.Committing || before == transaction.Aborting {
		dur = db.OS // what follows is decided, on the disk
	}
	for said := false; ; said = true {
		failpoint.Hit("local.decides", string(d.tx.State))
		_, err := writeCall.Call(ctx, d.c.d.Link, d.write(dur))
		switch {
		case err == nil:
			failpoint.Hit("local.decided", string(d.tx.State))
			d.c.d.say(d.tx.key, d.tx.State, d.tx.Failed)
			return true
		case ctx.Err() != nil || errors.Is(err, errLease) || errors.Is(err, components.ErrPrecondition):
			return false
		}
		if !said {
			d.c.d.log.Warn("a transaction's state cannot be written; it is tried again", "op", "drive", "gid", name(d.tx.key), "state", d.tx.State, "err", err)
		}
		select {
		case <-time.After(writeAgain):
		case <-ctx.Done():
			return false
		}
	}
}
