package grpcproxy

import (
	"errors"
)

var errHPACK = errors.New("hpack: malformed header block")

const tableMax = 4096 // SETTINGS_HEADER_TABLE_SIZE both ways; we never ask for more and never use more

// table is a dynamic table: oldest first, from head on.
type table struct {
	f         []Field
	head      int
	size, max int
}

func (t *table) len() int { return len(t.f) - t.head }

func (t *table) evict(room int, drop func(*Field)) {
	for t.size+room > t.max && t.len() > 0 {
		f := &t.f[t.head]
		t.size -= f.size()
		if drop != nil {
			drop(f)
		}
		*f = Field{}
		t.head++
	}
}

func (t *table) add(f Field, drop func(*Field)) bool {
	t.evict(f.size(), drop)
	if f.size() > t.max {
		return false
	}
	if len(t.f) == cap(t.f) && t.head > len(t.f)/4 {
		n := copy(t.f, t.f[t.head:])
		clear(t.f[n:])
		t.f, t.head = t.f[:n], 0
	}
	t.f = append(t.f, f)
	t.size += f.size()
	return true
}
