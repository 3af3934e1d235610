package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	maxAccessBytes = 1 << 20               // lines that wait to be written
	accessLinger   = 20 * time.Millisecond // how long a line waits for others to be written with
)

// AccessLog writes a line for each proxied request. Write never waits for the output: lines wait in a buffer of bounded size,
// for some milliseconds, and what does not fit is dropped and counted. A nil *AccessLog is one that is off.
type AccessLog struct {
	out     io.Writer
	format  func([]byte, *Entry) []byte
	limit   int
	log     *slog.Logger
	dropped prometheus.Counter

	mu     sync.Mutex
	buf    []byte // whole lines
	closed bool

	wake chan struct{} // there are lines; or there are so many that they should not wait
	stop chan struct{}
	done chan struct{}
}

// openAccessLog opens stdout, stderr or a file, which is appended to.
func openAccessLog(target string, json bool, log *slog.Logger, dropped prometheus.Counter) (*AccessLog, error) {
	var out io.Writer
	switch target {
	case "stdout":
		out = os.Stdout
	case "stderr":
		out = os.Stderr
	default:
		f, err := os.OpenFile(target, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, fmt.Errorf("access log: %w", err)
		}
		out = f
	}
	return newAccessLog(out, json, maxAccessBytes, log, dropped), nil
}

func newAccessLog(out io.Writer, json bool, limit int, log *slog.Logger, dropped prometheus.Counter) *AccessLog {
	l := &AccessLog{out: out, format: appendText, limit: limit, log: log, dropped: dropped,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	if json {
		l.format = appendJSON
	}
	go l.run()
	return l
}

var lines = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// Write adds a line. It keeps nothing of e.
func (l *AccessLog) Write(e *Entry) {
	if l == nil {
		return
	}
	line := lines.Get().(*[]byte)
	*line = append(l.format((*line)[:0], e), '\n')
	if !l.add(*line) {
		l.dropped.Inc()
	}
	lines.Put(line)
}

func (l *AccessLog) add(line []byte) bool {
	l.mu.Lock()
	had := len(l.buf)
	have := had + len(line)
	fits := !l.closed && have <= l.limit
	if fits {
		l.buf = append(l.buf, line...)
	}
	l.mu.Unlock()
	if fits && (had == 0 || had < l.limit/2 && have >= l.limit/2) {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return fits
}

// Close writes what is held and waits for it as long as ctx lasts. Lines that come later are dropped.
func (l *AccessLog) Close(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.stop)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("access log: its output does not take the last lines: %w", ctx.Err())
	}
}

func (l *AccessLog) run() {
	defer close(l.done)
	if f, ok := l.out.(*os.File); ok && f != os.Stdout && f != os.Stderr {
		defer f.Close()
	}
	var spare []byte
	failing := false
	for ended := false; !ended; {
		select {
		case <-l.wake:
			ended = l.linger()
		case <-l.stop:
			ended = true
		}
		l.mu.Lock()
		full := l.buf
		l.buf = spare[:0]
		l.mu.Unlock()
		if len(full) > 0 {
			failing = l.write(full, failing)
		}
		spare = full
	}
}

// linger waits for more lines, until they are many or the log is closed.
func (l *AccessLog) linger() (ended bool) {
	timer := time.NewTimer(accessLinger)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.wake:
	case <-l.stop:
		return true
	}
	return false
}

func (l *AccessLog) write(b []byte, failing bool) bool {
	n, err := l.out.Write(b)
	if err == nil {
		return false
	}
	l.dropped.Add(float64(bytes.Count(b[n:], []byte{'\n'})))
	if !failing { // once, not for each write to a full disk
		l.log.Warn("the access log cannot be written", "err", err)
	}
	return true
}
