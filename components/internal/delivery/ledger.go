// Package delivery keeps the books of a stream that delivers: how much credit there is, what has been delivered under which id, and
// until when that must be settled. Capabilities that deliver stand on it.
package delivery

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	// maxHeld and maxHeldBytes bound what a stream holds unsettled, however much credit it has.
	maxHeld      = 16 << 10
	maxHeldBytes = 32 << 20
	// maxRoom is how many are asked for at once.
	maxRoom = 1 << 10
)

// Room is what may be delivered: so many, of so many bytes altogether.
type Room struct {
	Messages int
	Bytes    int64
}

// Ledger is that of one stream, which delivers values of M. It is not safe for concurrent use.
type Ledger[M any] struct {
	term      time.Duration
	credit    Room
	boundless bool // no bound for bytes
	held      Room
	least     int64               // what the next takes, if it did not fit
	open      map[uint64]entry[M] // by serial
	deadlines []deadline          // in their order
	prefix    string              // of ids; what follows is the serial
	serial    uint64
}

// entry is what the application has.
type entry[M any] struct {
	value    M
	size     int64
	deadline time.Time
}

// deadline is one that was set, and may have been set anew since.
type deadline struct {
	serial uint64
	at     time.Time
}

// NewLedger makes the one of a stream whose deliveries are to be settled within term. There is no credit.
func NewLedger[M any](term time.Duration) *Ledger[M] {
	return &Ledger[M]{term: term, open: map[uint64]entry[M]{}, prefix: rand.Text()[:8] + "-"}
}

func (l *Ledger[M]) id(serial uint64) string {
	b := make([]byte, 0, 24)
	return string(strconv.AppendUint(append(b, l.prefix...), serial, 36))
}

// find answers the entry of an id, if it is open.
func (l *Ledger[M]) find(id string) (serial uint64, e entry[M], ok bool) {
	digits, ok := strings.CutPrefix(id, l.prefix)
	if !ok {
		return 0, e, false
	}
	serial, err := strconv.ParseUint(digits, 36, 64)
	if err != nil {
		return 0, e, false
	}
	e, ok = l.open[serial]
	return serial, e, ok
}

// Grant adds credit. Bytes of 0 with messages lift the bound on bytes for as long as the stream lasts; none at all takes back what
// is left. Less than none is ErrInvalid.
func (l *Ledger[M]) Grant(messages, bytes int64) error {
	if messages < 0 || bytes < 0 {
		return fmt.Errorf("%w: credit of %d messages and %d bytes is negative", components.ErrInvalid, messages, bytes)
	}
	if messages == 0 && bytes == 0 {
		l.Revoke()
		return nil
	}
	l.credit.Messages = int(min(int64(l.credit.Messages)+messages, 1<<40))
	l.credit.Bytes = min(l.credit.Bytes, 1<<60) + min(bytes, 1<<60)
	l.boundless = l.boundless || bytes == 0
	return nil
}

// Revoke takes back the credit that is left.
func (l *Ledger[M]) Revoke() { l.credit = Room{} }

// Room is what may be delivered now.
func (l *Ledger[M]) Room() Room {
	r := Room{Messages: min(l.credit.Messages, maxHeld-l.held.Messages, maxRoom), Bytes: maxHeldBytes - l.held.Bytes}
	if !l.boundless {
		r.Bytes = min(r.Bytes, l.credit.Bytes)
	}
	if r.Messages <= 0 || r.Bytes < l.least {
		return Room{}
	}
	return r
}

// Deliver enters a delivery of so many bytes, and answers its id; false: there is no room for it. From then on there is room only when
// it would fit, or after Forget.
func (l *Ledger[M]) Deliver(value M, size int64, now time.Time) (id string, ok bool) {
	if room := l.Room(); room.Messages == 0 || room.Bytes < size {
		if room.Messages > 0 {
			l.least = max(l.least, size)
		}
		return "", false
	}
	l.serial++
	l.least = 0
	l.credit.Messages--
	if !l.boundless {
		l.credit.Bytes -= size
	}
	l.Reserve(size)
	l.expect(l.serial, entry[M]{value: value, size: size}, now)
	return l.id(l.serial), true
}

// Forget forgets that something did not fit, which somebody else may have taken meanwhile, and answers whether something had not.
func (l *Ledger[M]) Forget() bool {
	had := l.least > 0
	l.least = 0
	return had
}

// Reserve has something of so many bytes that is no delivery take its place among what is unsettled, until it is released.
func (l *Ledger[M]) Reserve(size int64) {
	l.held.Messages++
	l.held.Bytes += size
}

// Release ends what Reserve began.
func (l *Ledger[M]) Release(size int64) {
	l.held.Messages--
	l.held.Bytes -= size
}

// expect sets the deadline of a delivery. Those that are set later are later.
func (l *Ledger[M]) expect(serial uint64, e entry[M], now time.Time) {
	e.deadline = now.Add(l.term)
	l.open[serial] = e
	if len(l.deadlines) > 2*len(l.open)+1<<10 { // many were settled behind one that was not
		l.deadlines = slices.DeleteFunc(l.deadlines, func(d deadline) bool {
			e, ok := l.open[d.serial]
			return !ok || !e.deadline.Equal(d.at)
		})
	}
	l.deadlines = append(l.deadlines, deadline{serial, e.deadline})
}

// Get answers what was delivered under an id, and is not settled.
func (l *Ledger[M]) Get(id string) (value M, ok bool) {
	_, e, ok := l.find(id)
	return e.value, ok
}

// Take settles a delivery; false: it is settled, or none of this stream.
func (l *Ledger[M]) Take(id string) (value M, ok bool) {
	serial, e, ok := l.find(id)
	if ok {
		l.close(serial, e.size)
	}
	return e.value, ok
}

func (l *Ledger[M]) close(serial uint64, size int64) {
	delete(l.open, serial)
	l.Release(size)
}

// Extend gives a delivery its whole term again.
func (l *Ledger[M]) Extend(id string, now time.Time) (value M, ok bool) {
	serial, e, ok := l.find(id)
	if ok {
		l.expect(serial, e, now)
	}
	return e.value, ok
}

// Expire takes the deliveries whose time is over, and answers when that of the next one will be; zero: there is none.
func (l *Ledger[M]) Expire(now time.Time) (over []M, next time.Time) {
	n := 0
	for ; n < len(l.deadlines); n++ {
		d := l.deadlines[n]
		e, ok := l.open[d.serial]
		if !ok || !e.deadline.Equal(d.at) { // settled, or extended
			continue
		}
		if d.at.After(now) {
			next = d.at
			break
		}
		l.close(d.serial, e.size)
		over = append(over, e.value)
	}
	l.deadlines = l.deadlines[n:]
	return over, next
}

// Held is how many deliveries are not settled.
func (l *Ledger[M]) Held() int { return len(l.open) }
