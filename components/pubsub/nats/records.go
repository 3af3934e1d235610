package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	library "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// origin is where a group began, or was moved to.
type origin struct {
	Low   int64 `cbor:"1,keyasint"` // the first event
	Moved int64 `cbor:"2,keyasint,omitempty"`
	Born  int64 `cbor:"3,keyasint"` // when the stream was made, in nanoseconds of the Unix epoch
}

// holding is how far a part is, and who has it.
type holding struct {
	Owner    string `cbor:"1,keyasint,omitempty"` // empty: nobody
	Writer   string `cbor:"2,keyasint"`           // with Serial it differs each time
	Serial   uint64 `cbor:"3,keyasint"`
	Offset   int64  `cbor:"4,keyasint"`
	Deflated bool   `cbor:"5,keyasint,omitempty"`
	State    []byte `cbor:"6,keyasint"`

	progress *parts.Progress
}

// presence is what a sidecar says of itself.
type presence struct {
	Weight int `cbor:"1,keyasint"`
}

// record is a message of the groups' stream.
type record struct {
	sequence uint64
	body     []byte    // none: it was taken back
	at       time.Time // it was seen
	value    any       // of the body
}

// view is what this sidecar has seen of what a group keeps, by the rest of the subjects.
type view struct {
	mu      sync.Mutex
	records map[string]record
	next    map[string]record // while it is read from the beginning
	ready   bool
	last    uint64 // sequence
	lost    bool   // the server has less than was seen of it
}

func parse(name string, body []byte) (value any, err error) {
	switch {
	case name == "", len(body) == 0:
		return nil, nil
	case name == "g":
		var o origin
		err = cbor.Unmarshal(body, &o)
		return o, err
	case name[0] == 'p':
		h := &holding{}
		if err = cbor.Unmarshal(body, h); err == nil {
			h.progress, err = parts.Decode(h.Offset, h.State, h.Deflated)
		}
		return h, err
	case name[0] == 'm':
		var p presence
		err = cbor.Unmarshal(body, &p)
		return p, err
	}
	var all []parts.Settled
	err = cbor.Unmarshal(body, &all)
	return all, err
}

// begin is told that all is read from the beginning.
func (v *view) begin(n uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.next = map[string]record{}
	if n == 0 {
		v.records, v.next, v.ready = v.next, nil, true
	}
}

// take takes in what has changed. What cannot be read counts as not being there.
func (v *view) take(base string, all []entry, complain func(name string, err error)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range all {
		name := strings.TrimPrefix(e.Subject, base+".")
		value, err := parse(name, e.Data)
		if err != nil {
			complain(name, err)
			value = nil
		}
		one := record{sequence: e.sequence, body: e.Data, at: time.Now(), value: value}
		v.last = max(v.last, e.sequence)
		if v.next == nil {
			v.records[name] = one
			continue
		}
		if before, ok := v.records[name]; ok && before.sequence == one.sequence {
			one.at = before.at
		}
		v.next[name] = one
		if e.pending == 0 {
			v.records, v.next, v.ready = v.next, nil, true
		}
	}
}

// look answers all there is; false: it is not known yet.
func (v *view) look() (all map[string]record, last uint64, ready bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.records), v.last, v.ready
}

// restart is told up to where the server has records.
func (v *view) restart(last uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if last < v.last {
		v.last, v.lost = last, true
	}
}

// rolled tells, once, whether the server has lost records.
func (v *view) rolled() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	lost := v.lost
	v.lost = false
	return lost
}

func partName(id int32) string { return "p." + strconv.Itoa(int(id)) }
func partID(name string) int32 {
	id, err := strconv.Atoi(strings.TrimPrefix(name, "p."))
	if err != nil {
		return -1
	}
	return int32(id)
}

func memberName(member string) string         { return "m." + member }
func toldName(id int32, member string) string { return fmt.Sprintf("t.%d.%s", id, member) }

// pack is for what cannot fail.
func pack(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

var errConflict = errors.New("another has written this meanwhile")

// anything stands for whatever was written before.
const anything = ^uint64(0)

// put writes a record, if its last one has this sequence.
func (g *group) put(ctx context.Context, name string, body []byte, before uint64) (sequence uint64, err error) {
	m := &library.Msg{Subject: g.base + "." + name, Data: body, Header: library.Header{}}
	if before != anything {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(before, 10))
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, g.d.opts.Timeout)
	defer cancel()
	ack, err := g.d.conn.js.PublishMsg(limited, m, jetstream.WithRetryAttempts(0))
	var answer *jetstream.APIError
	if errors.As(err, &answer) && (answer.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || answer.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return 0, errConflict
	}
	if err != nil {
		return 0, g.d.conn.failed(ctx, began, err)
	}
	return ack.Sequence, nil
}
