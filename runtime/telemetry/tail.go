package telemetry

import (
	"bytes"
	"io"
	"sync"
)

// tailSize is how much of the log is kept in memory, in bytes.
const tailSize = 128 << 10

// tail passes the log on and keeps its end.
type tail struct {
	out io.Writer

	mu   sync.Mutex
	kept []byte // up to twice tailSize
}

// Write gets whole lines.
func (t *tail) Write(lines []byte) (int, error) {
	t.mu.Lock()
	t.kept = append(t.kept, lines...)
	if len(t.kept) > 2*tailSize {
		t.kept = append(t.kept[:0], end(t.kept)...)
	}
	t.mu.Unlock()
	return t.out.Write(lines)
}

// end are the last lines, as many as fit.
func end(lines []byte) []byte {
	if len(lines) <= tailSize {
		return lines
	}
	lines = lines[len(lines)-tailSize-1:]
	return lines[bytes.IndexByte(lines, '\n')+1:]
}

func (t *tail) last() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(end(t.kept))
}
