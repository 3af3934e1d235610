package grpcproxy

import (
	"hash/maphash"
)

// encoder writes header blocks. It indexes what it has seen before, so that what differs in each call
// (trace ids, deadlines) does not wash the table out.
type encoder struct {
	table
	byField map[fieldKey]int // insertion numbers
	byName  map[string]int
	added   int
	seen    [64]uint64
	resized bool
}

type fieldKey struct{ name, value string }

var seed = maphash.MakeSeed()

func (e *encoder) init() {
	e.max = tableMax
	e.byField, e.byName = map[fieldKey]int{}, map[string]int{}
}

// setMax follows the peer's SETTINGS_HEADER_TABLE_SIZE. It starts over with an empty table: some decoders
// take two size updates in one block only so.
func (e *encoder) setMax(n uint32) {
	if m := min(int(n), tableMax); m != e.max {
		e.max = 0
		e.evict(0, e.drop)
		e.max, e.resized = m, true
	}
}

func (e *encoder) drop(f *Field) {
	n := e.added - e.len() // the number of the oldest
	if k := (fieldKey{f.Name, f.Value}); e.byField[k] == n {
		delete(e.byField, k)
	}
	if e.byName[f.Name] == n {
		delete(e.byName, f.Name)
	}
}

func (e *encoder) start(b []byte) []byte {
	if e.resized {
		e.resized = false
		b = appendVarint(append(b, 0x20), 0x20, 5, e.max)
	}
	return b
}

func (e *encoder) field(b []byte, f *Field) []byte {
	switch {
	case f.kind == kindPlain || f.Sensitive:
	case f.kind == kindMethod && f.Value == "POST":
		return append(b, 0x83)
	case f.kind == kindScheme && f.Value == "http":
		return append(b, 0x86)
	case f.kind == kindStatus && f.Value == "200":
		return append(b, 0x88)
	}
	k := fieldKey{f.Name, f.Value}
	if n, ok := e.byField[k]; ok && !f.Sensitive {
		return appendVarint(b, 0x80, 7, e.index(n))
	}
	n, named := e.byName[f.Name]
	i := 0
	if named {
		i = e.index(n)
	}
	index := !f.Sensitive && f.size() <= e.max/4
	if index && named { // a name known with another value: index the pair when it comes again
		h := maphash.Comparable(seed, k)
		slot := &e.seen[h%uint64(len(e.seen))]
		if index = *slot == h; !index {
			*slot = h
		}
	}
	switch {
	case f.Sensitive:
		b = appendVarint(b, 0x10, 4, i)
	case index:
		b = appendVarint(b, 0x40, 6, i)
	default:
		b = appendVarint(b, 0, 4, i)
	}
	if i == 0 {
		b = append(appendVarint(b, 0, 7, len(f.Name)), f.Name...)
	}
	b = append(appendVarint(b, 0, 7, len(f.Value)), f.Value...)
	if index && e.add(*f, e.drop) {
		e.byField[k], e.byName[f.Name] = e.added, e.added
		e.added++
	}
	return b
}

func (e *encoder) index(n int) int { return len(staticTable) + e.added - 1 - n }

func appendVarint(b []byte, first byte, bits, v int) []byte {
	m := 1<<bits - 1
	if v < m {
		return append(b, first|byte(v))
	}
	b = append(b, first|byte(m))
	for v -= m; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}
