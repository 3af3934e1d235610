package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// The kinds of records; the first byte of their keys.
const (
	items    = 'v'
	fences   = 'f'
	barriers = 'b'
	answers  = 'i'
	expiring = 'x'
)

const format = 1

// headBytes is where the content of a record begins.
const headBytes = 1 + 8 + 8 + 4

// head is what all records begin with.
type head struct {
	deadline db.Time // 0: none
	id       uint64
	salt     uint32
}

func (h head) put(record []byte) {
	record[0] = format
	binary.BigEndian.PutUint64(record[1:], uint64(h.deadline))
	binary.BigEndian.PutUint64(record[9:], h.id)
	binary.BigEndian.PutUint32(record[17:], h.salt)
}

// headOf fails, as all that takes records apart, with the reason why one is unreadable.
func headOf(record []byte) (head, error) {
	if len(record) < headBytes {
		return head{}, fmt.Errorf("it has only %d bytes", len(record))
	}
	if record[0] != format {
		return head{}, fmt.Errorf("it has format %d, and this version knows %d", record[0], format)
	}
	return head{db.Time(binary.BigEndian.Uint64(record[1:])), binary.BigEndian.Uint64(record[9:]), binary.BigEndian.Uint32(record[17:])}, nil
}

// unreadable is the error of the record of a key.
func unreadable(key []byte, why error) error { return store.Unreadable("state", string(key[1:]), why) }

func (h head) version() string {
	var b [32]byte
	return string(strconv.AppendUint(append(strconv.AppendUint(b[:0], h.id, 36), '-'), uint64(h.salt), 36))
}

func (h head) expired(now db.Time) bool { return h.deadline != 0 && h.deadline <= now }

// left is what is left of the time to live at a time when it has not expired.
func (h head) left(now db.Time) time.Duration {
	if h.deadline == 0 {
		return 0
	}
	return h.deadline.Sub(now)
}

// deadline is the time after which a record is gone that is kept for so long from now on.
func deadline(now db.Time, keep time.Duration) db.Time {
	if keep == 0 {
		return 0
	}
	return now.Add(keep)
}

// indexKey is that of the index's entry for a record with a deadline.
func indexKey(t db.Time, record []byte) []byte {
	b := append(make([]byte, 0, 9+len(record)), expiring)
	return append(binary.BigEndian.AppendUint64(b, uint64(t)), record...)
}

func encodeItem(i *state.Item) []byte {
	n := headBytes + len(i.ContentType) + len(i.Value) + 2*binary.MaxVarintLen32
	for k, v := range i.Metadata {
		n += len(k) + len(v) + 2*binary.MaxVarintLen32
	}
	b := appendText(make([]byte, headBytes, n), i.ContentType)
	b = binary.AppendUvarint(b, uint64(len(i.Metadata)))
	if len(i.Metadata) > 0 {
		for _, k := range slices.Sorted(maps.Keys(i.Metadata)) {
			b = appendText(appendText(b, k), i.Metadata[k])
		}
	}
	return append(b, i.Value...)
}

// decodeItem makes the item, whose value is a part of the record, but for its time to live.
func decodeItem(record []byte) (item state.Item, err error) {
	h, err := headOf(record)
	if err != nil {
		return item, err
	}
	item.Version = h.version()
	r := reader{rest: record[headBytes:]}
	item.ContentType = r.text()
	if n := r.number(); n > 0 && n <= uint64(len(r.rest)) {
		item.Metadata = make(map[string]string, n)
		for range n {
			k := r.text()
			item.Metadata[k] = r.text()
		}
	} else if n > 0 {
		r.broken = true
	}
	item.Value = r.rest
	return item, r.err()
}

// withoutValue is the part of an item's record before the value.
func withoutValue(record []byte) []byte {
	r := reader{rest: record[headBytes:]}
	r.text()
	for range 2 * r.number() {
		if r.text(); r.broken {
			break
		}
	}
	return record[:len(record)-len(r.rest)]
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes a record apart.
type reader struct {
	rest   []byte
	broken bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.broken = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) text() string {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.broken = true
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

func (r *reader) err() error {
	if r.broken {
		return errors.New("it ends early")
	}
	return nil
}

func encodeAnswer(digest []byte, out transactOut) []byte {
	b := appendText(make([]byte, headBytes, 128), string(digest))
	b = appendText(b, string(out.Outcome))
	b = binary.AppendUvarint(b, uint64(len(out.Versions)))
	for _, v := range out.Versions {
		b = appendText(b, v)
	}
	return b
}

func decodeAnswer(record []byte) (digest string, out transactOut, err error) {
	r := reader{rest: record[headBytes:]}
	digest, out.Outcome = r.text(), state.Outcome(r.text())
	n := r.number()
	if n > state.MaxOperations {
		r.broken = true
	}
	for i := uint64(0); i < n && !r.broken; i++ {
		out.Versions = append(out.Versions, r.text())
	}
	return digest, out, r.err()
}
