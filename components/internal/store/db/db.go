// Package db is the durable part of the local store: ordered keys and values in one folder, held by one process.
//
// All writing goes through one goroutine, which runs the updates that wait one after the other and commits them together: what
// Update answers is on the disk, many updates share one fsync, and what a machine decides in an update it decides alone.
// Reading does not wait for that: a View shows what was on the disk when it was taken.
//
// A commit goes into the journal first, which is this package's own, and then into the tables of an engine, Pebble, which brings it
// to their files by and by. The folder has a file "format", the journal's *.journal and newest, and the engine's.
package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
)

// Durability is how safe a write is when Update answers.
type Durability string

const (
	// Disk is on the disk: it survives the loss of power.
	Disk Durability = "disk"
	// OS is with the kernel: it survives the end of every process, but not that of the machine.
	OS Durability = "os"
)

// Options are what a DB is opened with.
type Options struct {
	Dir    string
	FS     vfs.FS // nil: the machine's
	Clock  Clock  // zero: the machine's
	Logger *slog.Logger

	full bool // the disk: nothing is written
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// DB is one process's hold on the folder. Safe for concurrent use.
type DB struct {
	opts     Options
	files    *fence // what the DB changes, it changes through it
	tables   *tableFS
	backups  sync.Mutex
	pebble   *pebble.DB
	journal  *journal
	clock    *steady
	lastID   atomic.Uint64
	reserved uint64 // ids up to here are, on the disk, taken for given out; of the goroutine that writes
	raised   uint64 // see Space.Raised; set while the DB is being opened
	room     room
	reclaim  reclaim
	stats    Stats

	queue   chan *update
	laters  laters
	drained chan struct{} // closed when nobody takes from queue any more
	end     context.CancelCauseFunc
	ended   context.Context // its cause says why nothing more is done
	failed  chan struct{}   // closed when the engine has failed
	broken  error           // why it has
	stale   chan struct{}   // closed when it has, and when there is room again
	again   func()          // closes stale
	giveUp  func(why error, sound bool)
	sound   bool // the engine is, though the DB has failed; read once failed is closed
	writing sync.WaitGroup
	engaged sync.WaitGroup // calls of the engine, and what waits for it
	mu      sync.Mutex     // of flushed, and orders what joins engaged before shut
	flushed []uint64       // segments of the journal that are not needed any more
	close   func() error
	view    atomic.Pointer[snapshot]
}

// ErrClosed is what calls of a closed DB fail with.
var ErrClosed = errors.New("the store is closed")

// ReasonFailed is of calls of a store that the disk or the file system has failed.
const ReasonFailed components.Reason = "STORE_FAILED"

// Open recovers what is in the folder, or makes it. A store that is damaged, or that a later version wrote, is refused and not
// touched: see Damage and ErrNewer. One that is there on a full disk is only read, until there is room and it has to be opened again; one
// that is not is ErrExhausted with STORE_DISK_FULL. Nothing waits for room.
func Open(o Options) (*DB, error) {
	o = o.withDefaults()
	d, err := open(o)
	if noRoom(err) {
		if full, failed := openFull(o); failed == nil {
			return full, nil
		}
		err = fullError(err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", o.Dir, err)
	}
	return d, nil
}

func open(o Options) (*DB, error) {
	d := newDB(o)
	d.tables.outputs.room = d.mayCompact
	err := d.open()
	if err == nil {
		return d, nil
	}
	d.end(err)
	d.files.close()
	d.files.wait()
	return nil, err
}

func newDB(o Options) *DB {
	d := &DB{opts: o, files: &fence{FS: o.FS}, queue: make(chan *update, maxBatch), failed: make(chan struct{}), drained: make(chan struct{})}
	d.ended, d.end = context.WithCancelCause(context.Background())
	d.close = sync.OnceValue(d.shut)
	d.stale = make(chan struct{})
	d.again = sync.OnceFunc(func() { close(d.stale) })
	var once sync.Once
	d.giveUp = func(why error, sound bool) {
		once.Do(func() {
			if d.sound = sound; !sound {
				d.files.close()
			}
			d.broken = components.WithReason(fmt.Errorf("%w: the store has failed: %w", components.ErrUnavailable, why), ReasonFailed)
			if d.tables.patient.Load() {
				o.Logger.Error("the store has failed and has to be opened again", "err", why)
			}
			d.end(d.broken)
			close(d.failed)
			d.again()
		})
	}
	d.tables = &tableFS{FS: d.files, ended: d.ended.Done(), outputs: outputs{behind: newBehind()}}
	return d
}

// fail is told that the engine can be used no more.
func (d *DB) fail(why error) { d.giveUp(why, false) }

func (d *DB) open() error {
	o := d.opts
	there, err := checkFormat(o.FS, o.Dir)
	if err == nil && !there {
		err = d.create()
	}
	if err != nil {
		return err
	}
	found, err := survey(o, tablesAtOpen)
	if err != nil {
		return err
	}
	if d.pebble, err = o.openEngine(d.tables, d.fail, false); err != nil {
		return err
	}
	d.tables.outputs.behind.bytes.Store(d.pebble.Metrics().Levels[0].TablesSize)
	err = d.ask(context.Background(), func() error { return d.recover(found.payloads) })
	if err == nil && len(found.payloads) > 0 && !o.full { // not all of it need have been synced, and whoever reads takes it for safe
		err = d.ask(context.Background(), d.pebble.Flush)
	}
	if err != nil {
		return errors.Join(err, d.guard(d.pebble.Close))
	}
	d.journal = &journal{fs: d.files, dir: o.Dir, next: found.next, last: found.last, synced: found.last, notes: notes{fs: d.files, dir: o.Dir},
		flush: func() error { return d.ask(context.Background(), d.pebble.Flush) }}
	if n := len(found.numbers); n > 0 {
		d.journal.number, d.journal.old = found.numbers[n-1], found.numbers[:n-1]
	}
	d.tables.patient.Store(true)
	d.reclaim.deleted.Store(there && !o.full) // what was deleted before may take room still
	d.publish(d.now())
	d.writing.Go(d.write)
	go d.forsake()
	if err := d.raise(); err != nil {
		return errors.Join(err, d.Close())
	}
	return nil
}

// create makes a store with nothing in it.
func (d *DB) create() error {
	o := d.opts
	if err := makeDir(d.files, o.Dir); err != nil {
		return err
	}
	if err := beginFormat(d.files, o.Dir, ""); err != nil {
		return err
	}
	p, err := o.openEngine(d.tables, d.fail, false)
	if err == nil {
		err = d.guard(p.Close)
	}
	if err != nil {
		return err
	}
	if err := beginJournal(d.files, o.Dir, 0); err != nil {
		return err
	}
	return endFormat(d.files, o.Dir)
}

// ask calls do, which waits for the engine: as long as the disk is full, or for ever once the engine has failed. So it comes back
// when ctx is over or the engine has failed, and do is left to itself. Once the DB is being closed nothing is asked any more.
func (d *DB) ask(ctx context.Context, do func() error) error {
	answer := make(chan error, 1)
	if !d.engage(func() { contain(do, answer) }) {
		return d.over()
	}
	select {
	case err := <-answer:
		return err
	case <-d.failed:
		return d.broken
	case <-ctx.Done():
		return ctx.Err()
	}
}

// engage has do run, which Close waits for; false once the DB is being closed.
func (d *DB) engage(do func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended.Err() != nil {
		return false
	}
	d.engaged.Go(do)
	return true
}

// guard calls do, and comes back earlier only if the engine has failed.
func (d *DB) guard(do func() error) error {
	if d.hasFailed() {
		return d.broken
	}
	answer := make(chan error, 1)
	go contain(do, answer)
	select {
	case err := <-answer:
		return err
	case <-d.failed:
		return d.broken
	}
}

// Close waits for the updates that have begun and closes the files. Those that wait fail with ErrClosed. When it is back nothing
// of the DB changes the folder any more, whatever has failed. It may be called more than once.
func (d *DB) Close() error { return d.close() }

// shut leaves behind what still runs of an engine that has failed, and perhaps who writes with it: neither can be ended, and what they
// hold is lost to the process.
func (d *DB) shut() (err error) {
	d.mu.Lock()
	d.end(ErrClosed)
	d.mu.Unlock()
	failed := d.hasFailed()
	if !failed {
		err = d.guard(func() error {
			d.writing.Wait()
			d.engaged.Wait()
			return nil
		})
	}
	d.view.Swap(nil).release()
	if !failed && err == nil {
		err = d.guard(func() error { return errors.Join(d.journal.close(), d.pebble.Close()) })
	}
	if failed && d.sound {
		d.leave()
	}
	d.files.close()
	d.files.wait()
	return err
}

// leaveTime is how long an engine may take to be closed that is sound, though the DB has failed.
const leaveTime = 10 * time.Second

// leave lets go of what a DB has that has failed, but for its engine.
func (d *DB) leave() {
	answer := make(chan error, 1)
	go contain(func() error {
		d.writing.Wait()
		d.engaged.Wait()
		return errors.Join(d.journal.release(), d.journal.notes.close(), d.pebble.Close())
	}, answer)
	limit := time.NewTimer(leaveTime)
	defer limit.Stop()
	select {
	case err := <-answer:
		if err != nil {
			d.opts.Logger.Debug("what has failed did not close well", "err", err)
		}
	case <-limit.C: // what is left of it is lost to the process
	}
}

// Failed closes when the store has to be opened again: it can do nothing more, or no longer has to be only read.
func (d *DB) Failed() <-chan struct{} { return d.stale }

func (d *DB) hasFailed() bool {
	select {
	case <-d.failed:
		return true
	default:
		return false
	}
}

// over says why nothing more is done.
func (d *DB) over() error { return context.Cause(d.ended) }

// Now is the time by the store's clock: see Time.
func (d *DB) Now() Time { return d.clock.now() }
