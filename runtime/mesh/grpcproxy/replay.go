package grpcproxy

import (
	"slices"
	"strconv"
	"sync"
)

// Failed is an attempt that Again is asked about.
type Failed struct {
	Flag   string // why it failed; empty: the upstream answered with Status
	Sent   bool   // something of the request may have reached the upstream's application
	Status int    // grpc-status
}

// keep is what a request needs to be sent once more.
type keep struct {
	fields []Field
	data   []byte
	most   int
}

// mayAgain asks whether there may be another attempt. s.mu is held.
func (s *stream) mayAgain(f Failed) bool {
	if s.out.Attempts >= s.r.MaxAttempts {
		return false
	}
	if s.r.Again == nil {
		return !f.Sent
	}
	return s.r.Again(s.out.Tag, f)
}

const (
	pooledData   = 16 << 10 // more is left to the garbage collector
	pooledFields = 64
)

var keeps = sync.Pool{New: func() any { return &keep{} }}

// keepRequest begins to keep a request, up to most bytes of its messages. s.mu is held.
func (s *stream) keepRequest(fields []Field, most int) {
	k := keeps.Get().(*keep)
	k.fields, k.data, k.most = append(k.fields[:0], fields...), k.data[:0], most
	s.keep = k
}

// forget gives up what was kept. s.mu is held.
func (s *stream) forget() {
	k := s.keep
	if s.keep = nil; k == nil || cap(k.data) > pooledData || cap(k.fields) > pooledFields {
		return
	}
	clear(k.fields)
	keeps.Put(k)
}

// kept adds to what is sent once more if need be; too much is not. s.mu is held.
func (s *stream) kept(p []byte) {
	switch k := s.keep; {
	case k == nil:
	case len(k.data)+len(p) > k.most:
		s.forget()
	default:
		k.data = append(k.data, p...)
	}
}

// runs tells whether stream id of c is still one of the two halves of s: what comes of an attempt that another one has followed is not heard
// any longer. s.mu is held.
func (s *stream) runs(c *conn, id uint32) bool {
	h := &s.h[c.side()]
	return h.c == c && h.id == id
}

// replay makes another attempt at a request of which something was sent; false: it cannot, or may not. e says why the one before failed,
// its flag is f's. s.mu is held.
func (s *stream) replay(f Failed, e *Error, b *batch) bool {
	k, up := s.keep, &s.h[1]
	if k == nil || s.began || s.finished.Load() || s.over(b.now) || up.trailer != nil || !s.mayAgain(f) {
		return false
	}
	s.kill(1, codeCancel, b)
	if c := up.c; c != nil && !up.out {
		c.mu.Lock()
		c.dropBlocked(s)
		delete(c.streams, up.id)
		c.care.emptied = b.now
		c.mu.Unlock()
		b.touch(c)
		if c.up != nil {
			b.wake = append(b.wake, c.up)
		}
	}
	*up = half{end: s.h[0].rdone}
	if len(k.data) > 0 {
		up.pend, up.moved = append(takeBuf(), k.data...), b.now
		s.owe(1, len(k.data))
	}
	s.head, s.retime = slices.Clone(k.fields), true
	s.again(e, b)
	return true
}

// answeredElsewhere has a request that its upstream answered with a failure go to another; false: it may not. An upstream that was told
// how long its attempt may take says so a moment before it is ended here. unreached is what Unreached says. s.mu is held.
func (s *stream) answeredElsewhere(unreached bool, b *batch) bool {
	code := s.out.Status
	f := Failed{Sent: true, Status: code}
	e := &Error{Code: code, Message: "the upstream answered grpc-status " + strconv.Itoa(code)}
	if unreached {
		e.Flag = FlagConnectFailed
		f = Failed{Flag: e.Flag}
	} else if code == grpcDeadline && s.tryDeadline != 0 && s.tryDeadline <= b.now+int64(marginMost) && !s.over(b.now) {
		e = s.tooLate(b.now, b)
		f = Failed{Flag: e.Flag, Sent: true}
	}
	s.out.Status = -1
	if s.replay(f, e, b) {
		return true
	}
	s.out.Status = code
	return false
}
