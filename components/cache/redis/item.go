package redis

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

const (
	format    = 1
	idSize    = 16
	headStart = 1 + idSize + 4 // where content type and metadata begin
)

// id is a version as it is stored: chance, so much that none comes twice.
type id [idSize]byte

var text = base64.RawURLEncoding

func (i id) String() string { return text.EncodeToString(i[:]) }

func newID() (i id) {
	_, _ = rand.Read(i[:]) // it never fails
	return i
}

// parse answers the bytes of a version. What is none of this driver's becomes what no item has.
func parse(version string) []byte {
	i, err := text.DecodeString(version)
	if err != nil || len(i) != idSize {
		return []byte("none")
	}
	return i
}

// encode makes of an item, with a new version, what is stored.
func encode(item cache.Item) (id, []byte) {
	version := newID()
	size := headStart + len(item.ContentType) + len(item.Value) + 2*binary.MaxVarintLen32
	for name, value := range item.Metadata {
		size += len(name) + len(value) + 2*binary.MaxVarintLen32
	}
	b := append(make([]byte, 0, size), format)
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

var errDamaged = fmt.Errorf("%w: the item in Redis is not what this driver writes", components.ErrDamaged)

// decode reads what encode has made. The value of the item is part of b.
func decode(b []byte) (cache.Item, error) {
	if len(b) < headStart || b[0] != format {
		return cache.Item{}, errDamaged
	}
	size := int64(binary.BigEndian.Uint32(b[1+idSize:]))
	if size > int64(len(b)-headStart) {
		return cache.Item{}, errDamaged
	}
	head := reader{b: b[headStart : headStart+size]}
	item := cache.Item{Version: id(b[1 : 1+idSize]).String(), ContentType: head.text(), Value: b[headStart+size:]}
	for n := head.number(); n > 0 && !head.bad; n-- {
		if item.Metadata == nil {
			item.Metadata = map[string]string{}
		}
		name := head.text()
		item.Metadata[name] = head.text()
	}
	if head.bad || len(head.b) > 0 {
		return cache.Item{}, errDamaged
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
