package kafka

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// progress is what a group keeps of a partition beside the offset that is committed.
type progress struct {
	count  int64         // of the topic's partitions when the group was made
	moved  int64         // counts how often the group was moved to a time
	known  int64         // of what is between the committed offset and this one, all that is not open is settled
	open   map[int64]try // by offset
	offset int64         // that is committed
}

// try is what is known of an event that is not settled.
type try struct {
	attempts int
	due      int64  // not before, in milliseconds of the Unix epoch; 0: at once
	holder   string // the member of the group where it is delivered; empty: none
}

// The metadata begin so, and are base64 of the rest: of format 1 as it is, or of that deflated, or where that stands.
const (
	plain     = "o1:"
	deflated  = "o1z:"
	elsewhere = "o1@"
)

const maxEncoded = 16 << 20 // when inflated

// encode makes metadata. Runs of events with the same tries take a few bytes together.
func (p *progress) encode() string {
	b := binary.AppendVarint(nil, p.count)
	b = binary.AppendVarint(b, p.moved)
	b = binary.AppendVarint(b, p.known-p.offset)
	holders := map[string]uint64{"": 0}
	var names []string
	for _, t := range p.open {
		if _, ok := holders[t.holder]; !ok {
			names = append(names, t.holder)
			holders[t.holder] = uint64(len(names))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
	}
	at, lastDue := p.offset, int64(0)
	offsets := slices.Sorted(maps.Keys(p.open))
	for i := 0; i < len(offsets); {
		t := p.open[offsets[i]]
		n := 1
		for i+n < len(offsets) && offsets[i+n] == offsets[i]+int64(n) && p.open[offsets[i+n]] == t {
			n++
		}
		b = binary.AppendVarint(b, offsets[i]-at)
		b = binary.AppendUvarint(b, uint64(n))
		b = binary.AppendUvarint(b, uint64(t.attempts))
		b = binary.AppendUvarint(b, holders[t.holder])
		b = binary.AppendVarint(b, t.due-lastDue)
		at, lastDue = offsets[i]+int64(n), t.due
		i += n
	}
	if len(b) < 256 {
		return plain + base64.StdEncoding.EncodeToString(b)
	}
	var small bytes.Buffer
	w, _ := flate.NewWriter(&small, flate.BestSpeed)
	_, _ = w.Write(b) // a buffer takes all
	_ = w.Close()
	return deflated + base64.StdEncoding.EncodeToString(small.Bytes())
}

var errProgress = errors.New("the group's metadata cannot be read")

// decode reads metadata of a committed offset. Those of others mean nothing: all before the offset is settled then.
func decode(offset int64, metadata string) (*progress, error) {
	p := &progress{offset: offset, known: offset, open: map[int64]try{}}
	var r *scanner
	switch {
	case strings.HasPrefix(metadata, deflated):
		raw, err := base64.StdEncoding.DecodeString(metadata[len(deflated):])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errProgress, err)
		}
		raw, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(raw)), maxEncoded))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errProgress, err)
		}
		r = &scanner{b: raw}
	case strings.HasPrefix(metadata, plain):
		raw, err := base64.StdEncoding.DecodeString(metadata[len(plain):])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errProgress, err)
		}
		r = &scanner{b: raw}
	default:
		return p, nil
	}
	p.count, p.moved = r.signed(), r.signed()
	p.known += r.signed()
	names := []string{""}
	for n := r.unsigned(); n > 0 && !r.bad; n-- {
		names = append(names, r.text())
	}
	at, due := offset, int64(0)
	for len(r.b) > 0 && !r.bad {
		at += r.signed()
		n, attempts, holder := r.unsigned(), r.unsigned(), r.unsigned()
		due += r.signed()
		if holder >= uint64(len(names)) || at < offset || n > uint64(p.known-at) || at > p.known {
			return nil, errProgress
		}
		t := try{attempts: int(attempts), due: due, holder: names[holder]}
		for range n {
			p.open[at] = t
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
