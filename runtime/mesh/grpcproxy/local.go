package grpcproxy

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Handler answers one unary call. req is valid during the call only; the answer is appended to resp, which must not be kept.
// ctx is a *Call; for a method that is not Blocking it is used again once the handler has returned.
type Handler func(ctx context.Context, req, resp []byte) ([]byte, *Status)

// Status is how a call ends that does not end well.
type Status struct {
	Code    int
	Message string
	Details []byte // a marshalled google.rpc.Status
}

// Method is a unary method that the relay answers itself. All that is unusual about a request (a compressed one, say) sends it
// the way Route says, so Route should lead to a server that knows the method too.
type Method struct {
	Handler    Handler
	Blocking   bool    // on a goroutine of its own; else on the connection's reader: it must not wait for anything
	Slow       Handler // runs, on a goroutine, when Handler did not want to wait and returned WouldBlock
	MaxRequest int     // bytes: 4 MiB
	Hop, Limit string  // what MaxRequest is called, and where, in the answer to a request that is larger
	// Patient calls may take long, as they wait for another call or for another server. They take no worker from the calls of
	// other methods, which may be what they wait for; of each such method Relay.MaxPatient run at once, and more are refused.
	// It implies Blocking.
	Patient bool
	r       *Relay
	pool    *workers
}

// WouldBlock is what a Handler returns to be called again as Slow.
var WouldBlock = &Status{Code: -1}

// Unary registers a method; before serving only.
func (r *Relay) Unary(path string, m Method) {
	r.init()
	if m.MaxRequest == 0 {
		m.MaxRequest = 4 << 20
	}
	m.r, m.pool, m.Blocking = r, &r.work, m.Blocking || m.Patient
	if m.Patient {
		m.pool = &workers{r: r, patient: true}
	}
	if r.methods == nil {
		r.methods = map[string]*Method{}
	}
	r.methods[path] = &m
}

// local finds the method of a request that can be answered here: a gRPC POST, not compressed.
func (r *Relay) local(h *Headers) *Method {
	m := r.methods[h.Path()]
	if m == nil {
		return nil
	}
	ct := false
	for i := range h.Fields {
		f := &h.Fields[i]
		switch f.kind {
		case kindMethod:
			if f.Value != "POST" {
				return nil
			}
		case kindContentType:
			s, ok := strings.CutPrefix(f.Value, "application/grpc")
			if !ok || s != "" && s != "+proto" {
				return nil
			}
			ct = true
		case kindEncoding:
			if f.Value != "identity" {
				return nil
			}
		}
	}
	if !ct {
		return nil
	}
	return m
}

const maxOpen = 64

// hold keeps a call whose body is expected within this read: nothing but the reader knows of it.
func (c *conn) hold(id uint32, m *Method, h *Headers, b *batch) {
	var k *Call
	if n := len(c.free); n > 0 {
		k, c.free = c.free[n-1], c.free[:n-1]
	} else {
		// The fields are memory of their own: connection and call swap theirs below, so within one piece of memory each call
		// would keep the one before it.
		k = &Call{c: c, fields: make([]Field, 0, 10)}
	}
	k.m, k.id, k.start = m, id, b.now
	if k.deadline = 0; h.Timeout > 0 {
		k.deadline = b.now + int64(h.Timeout)
	}
	k.fields, c.fields = h.Fields, k.fields[:0]
	c.fresh = append(c.fresh, k)
	if len(c.fresh) > maxOpen {
		c.promoteAll(b)
	}
}

func (c *conn) opened(id uint32) *Call {
	for i := len(c.fresh) - 1; i >= 0; i-- {
		if k := c.fresh[i]; k.id == id {
			c.fresh = slices.Delete(c.fresh, i, i+1)
			return k
		}
	}
	return nil
}

// recycle takes back a call that nobody else can know of, unless a context was made from it.
func (c *conn) recycle(k *Call) {
	if k.done != nil || len(c.free) >= maxOpen {
		return
	}
	k.m, k.header, k.trailer, k.tag, k.sent, k.size = nil, k.header[:0], k.trailer[:0], nil, 0, 0
	c.free = append(c.free, k)
}

func (c *conn) promoteAll(b *batch) {
	for _, k := range c.fresh {
		c.promote(k)
	}
	clear(c.fresh)
	c.fresh = c.fresh[:0]
}

// promote makes a stream of a call: it waits for something.
func (c *conn) promote(k *Call) *stream {
	s := &stream{r: c.r, call: k, born: k.start, deadline: k.deadline, length: -1}
	if k.deadline != 0 {
		s.patience = c.r.patient(k.start, time.Duration(k.deadline-k.start))
	}
	k.s = s
	s.h[0] = half{c: c, id: k.id, credit: c.r.StreamWindow}
	s.h[1] = half{done: true, rdone: true}
	c.mu.Lock()
	s.h[0].win = c.initWin
	c.streams[k.id] = s
	c.watch(s)
	c.mu.Unlock()
	return s
}

// localData takes a DATA frame of a local call; it has an end in most cases.
func (c *conn) localData(k *Call, p []byte, flow int, end bool, b *batch) {
	whole := end && len(p) >= 5 && p[0] == 0 && int(binary.BigEndian.Uint32(p[1:]))+5 == len(p)
	switch {
	case !whole || len(p)-5 > k.m.MaxRequest || flow > c.r.StreamWindow:
		c.streamData(c.promote(k), p, flow, end, b)
	case k.m.Blocking || !c.inline(k, p[5:], b):
		c.detach(k, p, b)
	}
}

// detach hands a whole request to a worker.
func (c *conn) detach(k *Call, p []byte, b *batch) {
	k.takeBody()
	k.body = append(k.body, p...)
	s := c.promote(k)
	s.mu.Lock() // from promote on its deadline may end it
	s.h[0].rdone = true
	s.mu.Unlock()
	c.work(s, b)
}

// work runs s's handler on a worker, or refuses if too many wait for one.
func (c *conn) work(s *stream, b *batch) {
	if s.call.m.pool.run(s) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := fault(FlagLimited, grpcExhausted, ReasonOverloaded, "too many calls wait to be served")
	if s.call.m.Patient {
		e.Message = "too many calls of this method are under way"
	}
	e.RetryDelay = time.Second
	s.reply(e, b)
}

func (m *Method) call(h Handler, k *Call, req, resp []byte) (out []byte, st *Status) {
	defer func() {
		if e := recover(); e != nil {
			out, st = resp, &Status{Code: grpcInternal, Message: "panic"}
			if m.r.Panic != nil {
				m.r.Panic(k, e)
			}
		}
	}()
	return h(k, req, resp)
}

// inline answers on the spot.
func (c *conn) inline(k *Call, req []byte, b *batch) bool {
	k.size = len(req) + 5
	resp, st := k.m.call(k.m.Handler, k, req, append(c.scratch[:0], 0, 0, 0, 0, 0))
	if c.scratch = resp; cap(resp) > 256<<10 {
		c.scratch = nil
	}
	switch {
	case st == WouldBlock:
		return false
	case st == AnswerLater:
		return true
	case k.s != nil: // it failed after it had said that it answers later
		k.s.mu.Lock()
		k.s.respond(resp, st, b)
		k.s.mu.Unlock()
		return true
	}
	c.mu.Lock()
	ok := c.answer(k, c.initWin, resp, st)
	c.mu.Unlock()
	if !ok {
		s := c.promote(k)
		s.mu.Lock()
		s.h[0].rdone = true
		s.respond(resp, st, b)
		s.mu.Unlock()
		return true
	}
	b.touch(c)
	if c.r.Done != nil {
		o := &c.outcome
		*o = Outcome{Path: k.Path(), Tag: k.tag, ConnTag: c.tag, Attempts: 1, Local: true,
			Sent: int64(len(req) + 5), Received: int64(len(resp)),
			Start: epoch.Add(time.Duration(k.start)), Duration: time.Since(epoch) - time.Duration(k.start)}
		if st != nil {
			o.Status, o.Received = st.Code, 0
		}
		c.r.Done(o)
	}
	c.recycle(k)
	return true
}

// broken ends a unary request that is none. s.mu is held.
func (s *stream) broken(why string, b *batch) {
	s.reply(fault(FlagProtocol, grpcInternal, ReasonMalformed, why), b)
}

// tooLarge answers a request of n bytes.
func (m *Method) tooLarge(n int) *Error {
	e := fault(FlagLimited, grpcExhausted, ReasonTooLarge, fmt.Sprintf("received message larger than max (%d vs. %d)", n, m.MaxRequest))
	if m.Limit != "" {
		e.Message += ": " + m.Limit + " at hop " + m.Hop
		e.Metadata = map[string]string{"hop": m.Hop, "limit": m.Limit, "max": strconv.Itoa(m.MaxRequest)}
	}
	return e
}

// streamData is localData for what did not come whole at once.
func (c *conn) streamData(s *stream, p []byte, flow int, end bool, b *batch) {
	k := s.call
	s.mu.Lock()
	h := &s.h[0]
	if s.finished.Load() || h.rdone {
		s.mu.Unlock()
		return
	}
	if h.credit -= flow; h.credit < 0 {
		s.reset0(codeFlowControl, b)
		s.mu.Unlock()
		return
	}
	if k.body == nil {
		k.takeBody()
	}
	k.sent += len(p)
	if c.r.held.Add(int64(len(p))) > int64(c.r.MaxLocal) {
		s.reply(fault(FlagLimited, grpcExhausted, ReasonOverloaded, "too many large requests"), b)
		s.mu.Unlock()
		return
	}
	k.body = append(k.body, p...)
	h.rdone = end
	if len(k.body) >= 5 {
		n := int(binary.BigEndian.Uint32(k.body[1:]))
		switch {
		case k.body[0] != 0:
			s.broken("compressed message without grpc-encoding", b)
		case n > k.m.MaxRequest:
			s.reply(k.m.tooLarge(n), b)
		case len(k.body) > n+5:
			s.broken("more than one message in a unary request", b)
		case end && len(k.body) < n+5:
			s.broken(io.ErrUnexpectedEOF.Error(), b)
		}
	} else if end {
		s.broken("no message in a unary request", b)
	}
	if s.finished.Load() {
		s.mu.Unlock()
		return
	}
	s.credit(0, flow, b)
	s.mu.Unlock()
	if !end {
		return
	}
	if k.m.Blocking {
		c.work(s, b)
		return
	}
	resp, st := k.m.call(k.m.Handler, k, k.body[5:], append(c.scratch[:0], 0, 0, 0, 0, 0))
	if c.scratch = resp; cap(resp) > 256<<10 {
		c.scratch = nil
	}
	switch st {
	case WouldBlock:
		c.work(s, b)
		return
	case AnswerLater:
		return
	}
	s.mu.Lock()
	s.respond(resp, st, b)
	s.mu.Unlock()
}
