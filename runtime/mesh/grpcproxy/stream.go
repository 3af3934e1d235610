package grpcproxy

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// stream is one request: h[0] is its half towards the client, h[1] towards the server.
type stream struct {
	r    *Relay
	call *Call // answered here
	born int64 // since epoch
	// Since epoch; 0: none. Written with both mu and the downstream connection's lock held.
	deadline, tryDeadline int64
	patience              int64 // until when the client waits for an answer of ours, since epoch; 0: it is not known. Written as those

	mu       sync.Mutex
	h        [2]half
	head     []Field // the request's headers while it waits, for a route or a place upstream
	timeout  time.Duration
	length   int64     // what the request's content-length says; -1: nothing
	retime   bool      // grpc-timeout is no longer what the client said
	waitsFor *Upstream // for a place there
	parked   *parking  // for its route
	keep     *keep     // until the response begins; nil: what was sent is not kept
	trying   bool      // the attempt that runs was not reported
	began    bool      // the response has begun
	finished atomic.Bool
	out      Outcome
}

// half is what is to be sent to one side, and what that side may send.
type half struct {
	c       *conn
	id      uint32
	win     int64  // what we may send
	pend    []byte // waits for window or room, from off on
	off     int
	moved   int64   // when some of it last went
	end     bool    // END_STREAM follows pend
	trailer []Field // so does this
	credit  int     // what the peer may still send
	unacked int     // what of it was passed on and not given back
	done    bool    // we have sent END_STREAM or RST_STREAM
	rdone   bool    // we have received one
	queued  bool    // in c.blocked
	out     bool    // no longer in c.streams
}

// request starts a stream with the header list in c.fields, or ends one with trailers.
func (c *conn) request(id uint32, end, over bool, b *batch) error {
	c.mu.Lock()
	s, closed, gone := c.streams[id], id <= c.last, c.gone
	if s == nil && !closed && !gone && id&1 == 1 {
		c.past.opened(c.last, id)
		c.last = id
	}
	full, unread := len(c.streams) >= c.r.MaxStreams, len(c.out) > writeLimit
	c.mu.Unlock()
	switch {
	case unread:
		return errUnread
	case id&1 == 0:
		return connError{codeProtocol, "stream id"}
	case s != nil:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.h[0].rdone {
			s.reset0(codeStreamClosed, b)
			return nil
		}
		if !end || over || s.length > s.out.Sent || malformed(c.fields, trailerList) {
			s.reset0(codeProtocol, b)
			return nil
		}
		if s.call != nil {
			s.reply(fault(FlagProtocol, grpcInternal, ReasonMalformed, "trailers in a unary request"), b)
			return nil
		}
		s.h[0].rdone, s.h[1].end = true, true
		s.forget() // what is kept would go without them
		s.headers(1, c.fields, true, b)
		s.settle(b)
		return nil
	case gone: // as it was when last was set: a GOAWAY that came since names this stream as one that is served
		return nil
	case closed && c.past.wasSkipped(id): // the reader alone writes that
		return connError{codeProtocol, "stream id"}
	case closed:
		return c.lateHeaders(id, b)
	case full:
		c.rst(id, codeRefused, b)
		return c.idle(b)
	case !over && malformed(c.fields, requestList) || c.selfish:
		c.rst(id, codeProtocol, b)
		return c.idle(b)
	}
	h := &c.head
	*h = Headers{Fields: c.fields}
	length, ok := h.length()
	if !ok || end && length > 0 {
		c.rst(id, codeProtocol, b)
		return c.idle(b)
	}
	timeout := h.kind(kindTimeout)
	if h.Timeout, ok = parseTimeout(timeout); ok && c.r.methods != nil && !over && !end && length < 0 && c.refusal == nil {
		if m := c.r.local(h); m != nil {
			c.hold(id, m, h, b)
			return nil
		}
	}
	s = &stream{r: c.r, born: b.now, timeout: h.Timeout, length: length}
	s.out = Outcome{Path: h.Path(), Authority: h.Authority(), ConnTag: c.tag, Status: -1, Start: epoch.Add(time.Duration(b.now))}
	if h.Timeout > 0 {
		s.deadline, s.patience = b.now+int64(h.Timeout), c.r.patient(b.now, h.Timeout)
	}
	s.h[0] = half{c: c, id: id, credit: c.r.StreamWindow, rdone: end}
	s.h[1].end = end
	s.mu.Lock()
	defer s.mu.Unlock()
	c.mu.Lock()
	s.h[0].win = c.initWin
	c.streams[id] = s
	c.watch(s)
	c.mu.Unlock()
	if over {
		s.reply(fault(FlagLimited, grpcExhausted, ReasonHeadersTooBig, "header list too large"), b)
		return nil
	}
	if !ok { // to take it for none would let the call run for ever
		s.reply(fault(FlagProtocol, grpcInternal, ReasonMalformed, "malformed grpc-timeout "+strconv.Quote(timeout[:min(len(timeout), timeoutShown)])), b)
		return nil
	}
	if c.refusal != nil {
		return c.refuse(s, b)
	}
	s.route(h, b)
	c.fields = h.Fields // may have grown
	return nil
}

// open takes a place on c and sends the request's headers, if there is one; last says that its stream ids are used up. s.mu is held.
func (c *conn) open(s *stream, fields []Field, b *batch) (ok, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.draining || uint32(len(c.streams)) >= c.maxStreams {
		return false, false
	}
	fields = s.remaining(fields, b)
	h := &s.h[1]
	h.c, h.id, h.win, h.credit = c, c.next, c.initWin, s.r.StreamWindow
	c.next += 2
	c.streams[h.id] = s
	h.done = h.end && len(h.pend) == 0 && h.trailer == nil
	c.putHeaders(h.id, fields, h.done)
	c.care.wrote = b.now
	c.draining = c.next >= 1<<31
	b.touch(c)
	return true, c.draining
}

// response passes on what the server answers on stream id of c, in c.head: headers or trailers.
func (s *stream) response(c *conn, id uint32, end, over bool, b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &c.head
	if s.finished.Load() || s.h[1].rdone || !s.runs(c, id) {
		return
	}
	h.c = s.h[0].c
	h.Conn, h.ConnTag, h.Tag, h.End = h.c.nc, h.c.tag, s.out.Tag, end
	fields := h.Fields
	switch {
	case over:
		s.reply(fault(FlagLimited, grpcExhausted, ReasonHeadersTooBig, "response header list too large"), b)
		return
	case s.began && !end || !s.began && malformed(fields, responseList) || s.began && malformed(fields, trailerList):
		s.reply(fault(FlagProtocol, grpcInternal, ReasonMalformed, "malformed response"), b)
		return
	}
	if end {
		s.h[1].rdone = true
		if n, err := strconv.Atoi(h.kind(kindGRPCStatus)); err == nil {
			s.out.Status = n
		}
	}
	if end && !s.began && s.out.Status > 0 && s.keep != nil && s.answeredElsewhere(s.r.Unreached != nil && s.r.Unreached(h), b) {
		return
	}
	trailers := s.began
	if v := h.kind(kindStatus); trailers || v[0] != '1' {
		s.began = true
		s.forget()
	}
	if s.r.Response != nil {
		s.r.Response(h, trailers)
	}
	s.headers(0, h.Fields, end, b)
	s.settle(b)
}

// headers sends a header list, after the data that waits. s.mu is held.
func (s *stream) headers(i int, fields []Field, end bool, b *batch) {
	h := &s.h[i]
	if h.done {
		return
	}
	if h.c == nil || len(h.pend) > 0 {
		h.end, h.trailer = true, slices.Clone(fields)
		return
	}
	h.c.mu.Lock()
	if !h.c.deaf() {
		h.c.putHeaders(h.id, fields, end)
	}
	h.c.mu.Unlock()
	h.done = end
	b.touch(h.c)
}

// settle ends what has come to its end: a half when both its directions have, the stream when the client has its answer. s.mu is held.
func (s *stream) settle(b *batch) {
	d, u := &s.h[0], &s.h[1]
	if d.done && !s.finished.Load() {
		s.finished.Store(true)
		s.head, s.waitsFor = nil, nil
		s.forget()
		s.unpark()
		s.kill(0, codeNo, b) // the request need not go on
		s.kill(1, codeCancel, b)
		if s.call != nil {
			s.ended(b)
		}
		s.out.Duration = time.Duration(b.now) - s.out.Start.Sub(epoch)
		b.done = append(b.done, s)
	}
	for _, h := range [...]*half{d, u} {
		if h.done && h.rdone && h.c != nil && !h.out {
			h.out = true
			h.c.mu.Lock()
			h.c.dropBlocked(s)
			delete(h.c.streams, h.id)
			over := h.c.draining && len(h.c.streams) == 0
			h.c.care.emptied = b.now
			h.c.mu.Unlock()
			if over {
				b.touch(h.c)
			}
			if up := h.c.up; up != nil && up.nwaiting.Load() > 0 {
				b.wake = append(b.wake, up)
			}
		}
	}
}
