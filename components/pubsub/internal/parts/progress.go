package parts

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Progress is what a group keeps of a part.
type Progress struct {
	Count  int64         // of the topic's parts when the group was made
	Moved  int64         // counts how often the group was moved to a time
	Offset int64         // all before it is settled
	Known  int64         // of what is between Offset and this one, all that is not open is settled
	Open   map[int64]Try // by offset
}

// Try is what is known of an event that is not settled.
type Try struct {
	Attempts int
	Due      int64  // not before, in milliseconds of the Unix epoch; 0: at once
	Holder   string // the member of the group where it is delivered; empty: none
}

// Begin is the progress of a part of which nothing is settled from an offset on.
func Begin(offset int64) *Progress {
	return &Progress{Offset: offset, Known: offset, Open: map[int64]Try{}}
}

const (
	worthwhile = 256      // bytes, from which on it is deflated
	maxEncoded = 16 << 20 // when inflated
	maxDecoded = 4 << 20  // events that are open
)

// Encode makes bytes of all but Offset, and says whether they are deflated. Runs of events with the same tries take a few bytes
// together.
func (p *Progress) Encode() (b []byte, deflated bool) {
	b = binary.AppendVarint(nil, p.Count)
	b = binary.AppendVarint(b, p.Moved)
	b = binary.AppendVarint(b, p.Known-p.Offset)
	holders := map[string]uint64{"": 0}
	var names []string
	for _, t := range p.Open {
		if _, ok := holders[t.Holder]; !ok {
			names = append(names, t.Holder)
			holders[t.Holder] = uint64(len(names))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
	}
	at, lastDue := p.Offset, int64(0)
	offsets := slices.Sorted(maps.Keys(p.Open))
	for i := 0; i < len(offsets); {
		t := p.Open[offsets[i]]
		n := 1
		for i+n < len(offsets) && offsets[i+n] == offsets[i]+int64(n) && p.Open[offsets[i+n]] == t {
			n++
		}
		b = binary.AppendVarint(b, offsets[i]-at)
		b = binary.AppendUvarint(b, uint64(n))
		b = binary.AppendUvarint(b, uint64(t.Attempts))
		b = binary.AppendUvarint(b, holders[t.Holder])
		b = binary.AppendVarint(b, t.Due-lastDue)
		at, lastDue = offsets[i]+int64(n), t.Due
		i += n
	}
	if len(b) < worthwhile {
		return b, false
	}
	var small bytes.Buffer
	w, _ := flate.NewWriter(&small, flate.BestSpeed)
	_, _ = w.Write(b) // a buffer takes all
	_ = w.Close()
	return small.Bytes(), true
}

var errProgress = errors.New("the group's progress cannot be read")

// Decode reads what Encode has made.
func Decode(offset int64, raw []byte, deflated bool) (*Progress, error) {
	p := Begin(offset)
	if deflated {
		var err error
		if raw, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(raw)), maxEncoded)); err != nil {
			return nil, fmt.Errorf("%w: %w", errProgress, err)
		}
	}
	r := &scanner{b: raw}
	p.Count, p.Moved = r.signed(), r.signed()
	p.Known += r.signed()
	names := []string{""}
	for n := r.unsigned(); n > 0 && !r.bad; n-- {
		names = append(names, r.text())
	}
	at, due := offset, int64(0)
	for len(r.b) > 0 && !r.bad {
		at += r.signed()
		n, attempts, holder := r.unsigned(), r.unsigned(), r.unsigned()
		due += r.signed()
		if holder >= uint64(len(names)) || at < offset || at > p.Known || n > uint64(p.Known-at) || n > uint64(maxDecoded-len(p.Open)) {
			return nil, errProgress
		}
		t := Try{Attempts: int(attempts), Due: due, Holder: names[holder]}
		for range n {
			p.Open[at] = t
			at++
		}
	}
	if r.bad {
		return nil, errProgress
	}
	return p, nil
}

// scanner reads numbers and texts; bad: there are none.
type scanner struct {
	b   []byte
	bad bool
}

func (r *scanner) unsigned() uint64 {
	v, n := binary.Uvarint(r.b)
	return advance(r, v, n)
}

func (r *scanner) signed() int64 {
	v, n := binary.Varint(r.b)
	return advance(r, v, n)
}

func advance[T any](r *scanner, v T, n int) T {
	if n <= 0 {
		r.b, r.bad = nil, true
		var none T
		return none
	}
	r.b = r.b[n:]
	return v
}

func (r *scanner) text() string {
	n := r.unsigned()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
