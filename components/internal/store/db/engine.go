package db

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// engine are the options of the engine. Its log is not used. The sizes bound what it takes while it serves: tables of 8 MiB in memory,
// which have room for a segment of the journal, four at most, and one compaction at a time, of a few tables of 4 MiB; writing waits when
// it falls behind by twelve levels. The filters spare most reads of a key that is not there, such as of each that is new, in
// all levels but the last.
func (o Options) engine(files *tableFS, log logger, readOnly bool) *pebble.Options {
	e := &pebble.Options{FS: files, FormatMajorVersion: engine, DisableWAL: true, ReadOnly: readOnly, DisableAutomaticCompactions: o.full, Logger: log,
		EventListener: &pebble.EventListener{BackgroundError: log.failedInBackground, DataCorruption: log.corrupted,
			CompactionEnd: files.outputs.compacted, FlushEnd: files.outputs.behind.flushed},
		MemTableSize: 8 << 20, MemTableStopWritesThreshold: 4, CacheSize: 8 << 20, MaxOpenFiles: 256,
		L0CompactionThreshold: 4, L0StopWritesThreshold: 1 << 20, // see behind
		LBaseMaxBytes:              32 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 }}
	last := len(e.Levels) - 1
	for i := range e.Levels {
		if i < last { // the filters of that one the engine would not look at
			e.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // bits for a key
		}
		e.TargetFileSizes[i] = 4 << 20
	}
	return e
}

// openEngine makes an error of what the engine would end the process for. failed is told of that, too, now and later.
func (o Options) openEngine(files *tableFS, failed func(error), readOnly bool) (*pebble.DB, error) {
	opened, answer, broken := make(chan *pebble.DB, 1), make(chan error, 1), make(chan error, 1)
	log := logger{o.Logger, func(err error) {
		failed(err)
		select {
		case broken <- fmt.Errorf("the engine cannot open the store: %w", err):
		default:
		}
	}}
	files.dir, files.fail = o.Dir, log.failed
	go contain(func() error {
		p, err := pebble.Open(o.Dir, o.engine(files, log, readOnly))
		opened <- p
		return o.unlisted(err)
	}, answer)
	select {
	case err := <-answer:
		if err != nil {
			return nil, err
		}
		return <-opened, nil
	case err := <-broken:
		return nil, err
	}
}

// contain calls do, and sends what comes of it also when that panics or ends the goroutine.
func contain(do func() error, answer chan<- error) {
	err := errors.New("the engine has given up")
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("the engine has given up: %v", why)
		}
		answer <- err
	}()
	err = do()
}

// logger keeps what the engine says for those who debug it.
type logger struct {
	log    *slog.Logger
	failed func(error)
}

func (l logger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.log.Warn(fmt.Sprintf(format, args...)) }

// Fatalf is where the engine expects the process to end. Instead the store does, and the goroutine of the engine's that cannot
// go on: the locks that it holds are let go, so that what others have begun to read comes to an end.
func (l logger) Fatalf(format string, args ...any) {
	err := &fatal{text: fmt.Sprintf(format, args...)}
	for _, arg := range args {
		if cause, ok := arg.(error); ok {
			err.cause = cause
		}
	}
	l.failed(err)
	runtime.Goexit()
}

// fatal is what the engine would have ended the process with.
type fatal struct {
	text  string
	cause error
}

func (f *fatal) Error() string { return f.text }

func (f *fatal) Unwrap() error { return f.cause }

// corrupted leaves it to who reads what is damaged to be told.
func (l logger) corrupted(info pebble.DataCorruptionInfo) { l.Errorf("%s", info) }

// failedInBackground is told what the engine will try again, and ends that where it could not write.
func (l logger) failedInBackground(err error) {
	l.Errorf("in the background: %v", err)
	if errors.Is(err, errWrite) {
		l.failed(err)
		runtime.Goexit()
	}
}
