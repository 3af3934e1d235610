// Package db is the durable part of the local store: ordered keys and values in one folder, held by one process.
//
// All writing goes through one goroutine, which runs the updates that wait one after the other and commits them together: what
// Update answers is on the disk, many updates share one fsync, and what a machine decides in an update it decides alone.
// Reading does not wait for that: a View shows what was on the disk when it was taken.
//
// A commit goes into the journal first, which is this package's own, and then into the tables of an engine, Pebble, which brings it
// to their files by and by. The folder has a file "format", the journal's *.journal, and the engine's.
package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

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

// engine are the options of the engine. Its log is not used. The sizes bound what it takes while it serves: tables of 4 MiB
// in memory, eight at most, and one compaction at a time, of a few tables of 4 MiB; writing waits when it falls behind by twelve levels.
func (o Options) engine(files vfs.FS, log logger, readOnly bool) *pebble.Options {
	e := &pebble.Options{FS: files, FormatMajorVersion: engine, DisableWAL: true, ReadOnly: readOnly, Logger: log,
		MemTableSize: 4 << 20, MemTableStopWritesThreshold: 8, CacheSize: 8 << 20, MaxOpenFiles: 256,
		L0CompactionThreshold: 4, L0StopWritesThreshold: 12, LBaseMaxBytes: 32 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 }}
	for i := range e.TargetFileSizes {
		e.TargetFileSizes[i] = 4 << 20
	}
	return e
}

// DB is one process's hold on the folder. Safe for concurrent use.
type DB struct {
	opts     Options
	pebble   *pebble.DB
	tables   *tableFS
	journal  *journal
	clock    *steady
	lastID   atomic.Uint64
	reserved uint64 // ids up to here are, on the disk, taken for given out; of the goroutine that writes
	room     room
	stats    Stats

	queue   chan *update
	drained chan struct{} // closed when nobody takes from queue any more
	end     context.CancelCauseFunc
	ended   context.Context // its cause says why nothing more is done
	failed  chan struct{}   // closed when the engine has failed
	fail    func(error)
	writing sync.WaitGroup
	tidying sync.WaitGroup
	mu      sync.Mutex
	flushed []uint64 // segments of the journal that are not needed any more
	close   func() error
	view    atomic.Pointer[snapshot]
}

// ErrClosed is what calls of a closed DB fail with.
var ErrClosed = errors.New("the store is closed")

// ReasonFailed is of calls of a store that the disk or the file system has failed.
const ReasonFailed components.Reason = "STORE_FAILED"

// Open recovers what is in the folder, or makes it. A store that is damaged, or that a later version wrote, is refused and not
// touched: see Damage and ErrNewer.
func Open(o Options) (*DB, error) {
	o = o.withDefaults()
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	there, err := checkFormat(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	var found replayed
	if there {
		found, err = survey(o, tablesAtOpen)
	} else if found, err = replay(o.FS, o.Dir, 0); err == nil {
		err = writeFormat(o.FS, o.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	d := newDB(o)
	if err := d.open(found); err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", o.Dir, err)
	}
	return d, nil
}

func newDB(o Options) *DB {
	d := &DB{opts: o, tables: &tableFS{FS: o.FS}, queue: make(chan *update, maxBatch), failed: make(chan struct{}), drained: make(chan struct{})}
	d.ended, d.end = context.WithCancelCause(context.Background())
	d.close = sync.OnceValue(d.shut)
	var once sync.Once
	d.fail = func(why error) {
		once.Do(func() {
			o.Logger.Error("the store has failed and is opened again", "err", why)
			d.end(components.WithReason(fmt.Errorf("%w: the store has failed: %w", components.ErrUnavailable, why), ReasonFailed))
			close(d.failed)
		})
	}
	return d
}

func (d *DB) open(found replayed) (err error) {
	if d.pebble, err = d.opts.openEngine(d.tables, d.fail, false); err != nil {
		return err
	}
	for _, payload := range found.payloads {
		if err := d.redo(payload); err != nil {
			return errors.Join(err, d.pebble.Close())
		}
	}
	if err := d.recover(); err != nil {
		return errors.Join(err, d.pebble.Close())
	}
	d.journal = &journal{fs: d.opts.FS, dir: d.opts.Dir, next: found.next, last: found.last, flush: d.pebble.Flush}
	if n := len(found.numbers); n > 0 {
		d.journal.number, d.journal.old = found.numbers[n-1], found.numbers[:n-1]
	}
	if len(found.payloads) == 0 {
		d.journal.synced = d.journal.last
	}
	d.publish()
	d.writing.Go(d.write)
	return nil
}

// openEngine makes an error of what the engine would end the process for.
func (o Options) openEngine(files vfs.FS, failed func(error), readOnly bool) (p *pebble.DB, err error) {
	log := logger{o.Logger, failed, new(atomic.Bool)}
	log.opening.Store(true)
	defer log.opening.Store(false)
	defer func() {
		if fatal := recover(); fatal != nil {
			err = fmt.Errorf("the engine cannot open the store: %v", fatal)
		}
	}()
	p, err = pebble.Open(o.Dir, o.engine(files, log, readOnly))
	return p, damaged(o.Dir, err)
}

func (d *DB) redo(payload []byte) error {
	b := d.pebble.NewBatch()
	if err := b.SetRepr(payload); err != nil {
		return errors.Join(err, b.Close())
	}
	return errors.Join(b.Commit(pebble.NoSync), b.Close())
}

// Close waits for the updates that have begun and closes the files. Those that wait fail with ErrClosed. It may be called more
// than once.
func (d *DB) Close() error { return d.close() }

func (d *DB) shut() error {
	d.end(ErrClosed)
	stopped := make(chan struct{})
	go func() {
		d.writing.Wait()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-d.failed: // the engine stands where it failed, and perhaps who writes with it; what it holds is lost to the process
	}
	d.tables.closing.Store(true)
	d.view.Swap(nil).release()
	if d.hasFailed() {
		return nil
	}
	d.tidying.Wait()
	return errors.Join(d.journal.close(), d.pebble.Close())
}

// Failed closes when the store can do nothing more and has to be opened again.
func (d *DB) Failed() <-chan struct{} { return d.failed }

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

// logger keeps what the engine says for those who debug it.
type logger struct {
	log     *slog.Logger
	failed  func(error)
	opening *atomic.Bool
}

func (l logger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.log.Warn(fmt.Sprintf(format, args...)) }

// Fatalf is where the engine expects the process to end. Instead the store does, and the goroutine of the engine's that cannot
// go on: the locks that it holds are let go, so that what others have begun to read comes to an end.
func (l logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if l.opening.Load() {
		panic(err) // it is not the engine's goroutine
	}
	l.failed(err)
	runtime.Goexit()
}
