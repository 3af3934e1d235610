// Package record is how drivers keep items in Redis: in a string of a byte, 1 for an item that stays and 2 for one whose key has an
// end; the version, 16 bytes; the length of the head
// that follows, four bytes, the highest first; the head, which is content type, number of metadata, and their names and values, numbers
// as varints and texts after their lengths; and the value.
package record

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
)

// How an item begins.
const (
	Stays = 1
	Ends  = 2
)

const (
	idSize    = 16
	headStart = 1 + idSize + 4
)

// Item is what is kept.
type Item struct {
	Version     string // ignored by Encode
	Ends        bool   // its key has an end
	ContentType string
	Metadata    map[string]string
	Value       []byte
}

// ID is a version as it is stored: chance, so much that none comes twice.
type ID [idSize]byte

var text = base64.RawURLEncoding

// String is the version as callers see it.
func (i ID) String() string { return text.EncodeToString(i[:]) }

func newID() (i ID) {
	_, _ = rand.Read(i[:]) // it never fails
	return i
}

// Parse answers the bytes of a version. What is none becomes what no item has.
func Parse(version string) []byte {
	i, err := text.DecodeString(version)
	if err != nil || len(i) != idSize {
		return []byte("none")
	}
	return i
}

// Encode makes of an item, with a new version, what is stored.
func Encode(item Item) (ID, []byte) {
	version := newID()
	size := headStart + len(item.ContentType) + len(item.Value) + 2*binary.MaxVarintLen32
	for name, value := range item.Metadata {
		size += len(name) + len(value) + 2*binary.MaxVarintLen32
	}
	b := append(make([]byte, 0, size), Stays)
	if item.Ends {
		b[0] = Ends
	}
	b = append(b, version[:]...)
	b = append(b, 0, 0, 0, 0)
	b = appendText(b, item.ContentType)
	b = binary.AppendUvarint(b, uint64(len(item.Metadata)))
	for name, value := range item.Metadata {
		b = appendText(appendText(b, name), value)
	}
	binary.BigEndian.PutUint32(b[1+idSize:], uint32(len(b)-headStart)) //nolint:gosec // calls are smaller
	return version, append(b, item.Value...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// ErrDamaged is that somebody else has written what is there.
var ErrDamaged = fmt.Errorf("%w: what is in Redis under this key is no item", components.ErrDamaged)

// Decode reads what Encode has made. The value of the item is part of b.
func Decode(b []byte) (Item, error) {
	if len(b) < headStart || b[0] != Stays && b[0] != Ends {
		return Item{}, ErrDamaged
	}
	size := int64(binary.BigEndian.Uint32(b[1+idSize:]))
	if size > int64(len(b)-headStart) {
		return Item{}, ErrDamaged
	}
	head := reader{b: b[headStart : headStart+size]}
	item := Item{Version: ID(b[1 : 1+idSize]).String(), Ends: b[0] == Ends, ContentType: head.text(), Value: b[headStart+size:]}
	for n := head.number(); n > 0 && !head.bad; n-- {
		if item.Metadata == nil {
			item.Metadata = map[string]string{}
		}
		name := head.text()
		item.Metadata[name] = head.text()
	}
	if head.bad || len(head.b) > 0 {
		return Item{}, ErrDamaged
	}
	return item, nil
}

// reader takes texts and numbers from the front of b, until something is bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) text() string {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
