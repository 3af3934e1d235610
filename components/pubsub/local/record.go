package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// format is the first byte of events and blocks, as it is of what store.EncodeRecord makes.
const format = 1

// headLength is that of an event's record before the event: format, the store's time, the wall's, bytes of the topic.
const headLength = 1 + 3*8

func number(key []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(key, n) }

func eventKey(topic, seq uint64) []byte {
	return number(number(append(make([]byte, 0, 17), 'e'), topic), seq)
}
func groupKey(topic uint64, group string) []byte { return append(number([]byte("g"), topic), group...) }
func blocksOf(group uint64) []byte               { return number([]byte("a"), group) }
func blockKey(group, block uint64) []byte        { return number(blocksOf(group), block) }
func retriesOf(group uint64) []byte              { return number([]byte("r"), group) }
func retryKey(group, seq uint64) []byte          { return number(retriesOf(group), seq) }
func repeatKey(topic uint64, key string) []byte  { return append(number([]byte("i"), topic), key...) }
func expiryKey(at db.Time, record []byte) []byte {
	return append(number([]byte("x"), uint64(at)), record...)
}

// sequenceOf is the number that a key ends with.
func sequenceOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// unreadable is the error of the record of a key.
func unreadable(key []byte, why error) error {
	var what, name string
	switch key[0] {
	case 'n':
		a, _ := addressOf(key)
		what, name = "topic", a.name
	case 'e':
		what, name = "event", strconv.FormatUint(sequenceOf(key), 10)
	case 'g':
		what, name = "group", string(key[9:])
	case 'a':
		what, name = "settled events, block", strconv.FormatUint(sequenceOf(key), 10)
	case 'r':
		what, name = "the attempts of event", strconv.FormatUint(sequenceOf(key), 10)
	case 'i':
		what, name = "idempotency key", string(key[9:])
	}
	return store.Unreadable(what, name, why)
}

// topicRecord is stored when something of it changes; Reached and Bytes follow within a second.
type topicRecord struct {
	ID             uint64        `cbor:"1,keyasint"`
	Removed        uint64        `cbor:"2,keyasint,omitempty"` // up to this sequence
	RemovedBytes   uint64        `cbor:"3,keyasint,omitempty"`
	Reached        uint64        `cbor:"4,keyasint,omitempty"` // at least up to this sequence
	ReachedBytes   uint64        `cbor:"5,keyasint,omitempty"`
	Retention      time.Duration `cbor:"6,keyasint"`
	RetentionBytes int64         `cbor:"7,keyasint"`
	Wall           int64         `cbor:"8,keyasint,omitempty"` // of the event at Reached
	Groups         time.Duration `cbor:"9,keyasint,omitempty"` // 0: it is not known
}

type groupRecord struct {
	ID   uint64  `cbor:"1,keyasint"`
	Low  uint64  `cbor:"2,keyasint,omitempty"`
	Seen db.Time `cbor:"3,keyasint,omitempty"` // when it had members, or nearly; 0: it is not known
}

type retryRecord struct {
	Attempts int     `cbor:"1,keyasint"`
	Due      db.Time `cbor:"2,keyasint,omitempty"`
}

type repeatRecord struct {
	Fingerprint []byte  `cbor:"1,keyasint"`
	ID          string  `cbor:"2,keyasint"`
	Expires     db.Time `cbor:"3,keyasint"`
}

// encode is for records of numbers and texts, which cannot fail.
func encode(v any) []byte {
	b, err := store.EncodeRecord(v)
	if err != nil {
		panic(err)
	}
	return b
}

func decode(key, record []byte, v any) error {
	if err := store.DecodeRecord(record, v); err != nil {
		return unreadable(key, err)
	}
	return nil
}

// encodeEvent leaves room for the head, which stamp fills in.
func encodeEvent(e *event) ([]byte, error) {
	const attributes = 256 // about
	b := bytes.NewBuffer(make([]byte, headLength, headLength+attributes+e.size()))
	if err := eventEncoding.MarshalToBuffer(e, b); err != nil {
		return nil, fmt.Errorf("%w: %w", components.ErrInvalid, err)
	}
	return b.Bytes(), nil
}

var eventEncoding, _ = cbor.EncOptions{}.UserBufferEncMode() // the defaults

type head struct {
	at    db.Time
	wall  int64
	bytes uint64
}

func (h head) stamp(record []byte) {
	record[0] = format
	binary.BigEndian.PutUint64(record[1:], uint64(h.at))
	binary.BigEndian.PutUint64(record[9:], uint64(h.wall))
	binary.BigEndian.PutUint64(record[17:], h.bytes)
}

var errHead = errors.New("this version does not know its format")

func headOf(key, record []byte) (head, error) {
	if len(record) < headLength || record[0] != format {
		return head{}, unreadable(key, errHead)
	}
	return head{db.Time(binary.BigEndian.Uint64(record[1:])), int64(binary.BigEndian.Uint64(record[9:])), binary.BigEndian.Uint64(record[17:])}, nil
}

func decodeEvent(key, record []byte) (*event, error) {
	if _, err := headOf(key, record); err != nil {
		return nil, err
	}
	e := &event{}
	if err := cbor.Unmarshal(record[headLength:], e); err != nil {
		return nil, unreadable(key, err)
	}
	return e, nil
}
