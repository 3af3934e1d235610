// Package db is the durable part of the local store: ordered keys and values in one folder, held by one process.
//
// All writing goes through one goroutine, which runs the updates that wait one after the other and commits them together: what
// Update answers is on the disk, many updates share one fsync, and what a machine decides in an update it decides alone.
// Reading does not wait for that: a View shows what was on the disk when it was taken.
package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
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

// DB is one process's hold on the folder. Safe for concurrent use.
type DB struct {
	opts   Options
	pebble *pebble.DB
	wal    *walFS
	clock  *steady
	lastID atomic.Uint64

	queue   chan *update
	end     context.CancelFunc
	ended   context.Context
	writing sync.WaitGroup
	view    atomic.Pointer[snapshot]
}

// ErrClosed is what calls of a closed DB fail with.
var ErrClosed = errors.New("the store is closed")

// Open recovers what is in the folder, or makes it.
func Open(o Options) (*DB, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	d := &DB{opts: o, wal: newWALFS(o.FS), queue: make(chan *update, maxBatch)}
	p, err := pebble.Open(o.Dir, &pebble.Options{
		FS: d.wal, FormatMajorVersion: pebble.FormatWALSyncChunks, MemTableSize: 4 << 20,
		Logger: quiet{o.Logger},
	})
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", o.Dir, err)
	}
	d.pebble = p
	if err := d.recover(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	d.ended, d.end = context.WithCancel(context.Background())
	d.publish()
	d.writing.Go(d.write)
	return d, nil
}

// Close waits for the updates that have begun and closes the files. Those that wait fail with ErrClosed.
func (d *DB) Close() error {
	d.end()
	d.writing.Wait()
	d.view.Swap(nil).release()
	return d.pebble.Close()
}

// Now is the time by the store's clock: see Time.
func (d *DB) Now() Time { return d.clock.now() }

// quiet keeps what the engine says for those who debug it.
type quiet struct{ log *slog.Logger }

func (q quiet) Infof(format string, args ...any)  { q.log.Debug(fmt.Sprintf(format, args...)) }
func (q quiet) Errorf(format string, args ...any) { q.log.Warn(fmt.Sprintf(format, args...)) }
func (q quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
