package grpcproxy

import (
	"slices"
	"sync"
)

// data passes on a DATA frame of stream id of c, as far as the other side takes it.
func (s *stream) data(c *conn, id uint32, p []byte, flow int, end bool, b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := c.side()
	from, to := &s.h[i], &s.h[1-i]
	if s.finished.Load() || !s.runs(c, id) {
		return
	}
	if from.rdone {
		if i == 0 {
			s.reset0(codeStreamClosed, b)
		}
		return
	}
	if from.credit -= flow; from.credit < 0 {
		if i == 0 {
			s.reset0(codeFlowControl, b)
		} else {
			s.reply(fault(FlagProtocol, grpcInternal, ReasonMalformed, "upstream overran its window"), b)
		}
		return
	}
	if i == 1 && !s.began {
		s.reply(fault(FlagProtocol, grpcInternal, ReasonMalformed, "the upstream sent data before its answer"), b)
		return
	}
	if i == 0 {
		if s.out.Sent += int64(len(p)); s.length >= 0 && (s.out.Sent > s.length || end && s.out.Sent < s.length) {
			s.reset0(codeProtocol, b) // RFC 9113 section 8.1.1
			return
		}
		s.kept(p)
	} else {
		s.out.Received += int64(len(p))
	}
	from.rdone, to.end = end, end
	n := 0
	if to.c != nil && len(to.pend) == 0 && (len(p) > 0 || end) {
		n = s.write(1-i, p, end, writeHigh, b)
	}
	if n < len(p) {
		if to.off > len(to.pend)/2 {
			to.pend, to.off = to.pend[:copy(to.pend, to.pend[to.off:])], 0
		}
		if to.pend == nil {
			to.pend = takeBuf()
		}
		if len(to.pend) == 0 {
			to.moved = b.now
		}
		to.pend = append(to.pend, p[n:]...)
		s.owe(1-i, len(p)-n)
		if i == 1 && s.overdrawn() {
			s.tooSlow(b)
			return
		}
	}
	s.credit(i, n+flow-len(p), b)
	if end {
		s.settle(b)
	}
}

// credit lets side i send n more, in good-sized steps. s.mu is held.
func (s *stream) credit(i, n int, b *batch) {
	h := &s.h[i]
	if h.unacked += n; h.unacked < s.r.StreamWindow/2 || h.rdone || h.done && i == 0 {
		return
	}
	v := uint32(h.unacked)
	h.credit, h.unacked = h.credit+h.unacked, 0
	h.c.send(b, func(o []byte) []byte { return appendU32(o, fWindow, h.id, v) })
}

// write sends as much of p as windows and the write buffer allow. s.mu is held.
func (s *stream) write(i int, p []byte, end bool, most int, b *batch) (n int) {
	h := &s.h[i]
	c := h.c
	c.mu.Lock()
	if c.closed || h.done {
		c.mu.Unlock()
		return len(p)
	}
	if len(c.blocked) > 0 && most > quantum {
		most = 0 // others wait: queue
	}
	for {
		k := min(len(p)-n, maxFrame, most-n)
		if len(p) > 0 {
			k = int(min(int64(k), h.win, c.win, int64(writeHigh-len(c.out))))
			if k <= 0 {
				break
			}
		}
		var flags byte
		last := n+k == len(p)
		if last && end {
			flags, h.done = flagEnd, true
		}
		c.out = append(appendFrame(c.out, k, fData, flags, h.id), p[n:n+k]...)
		h.win -= int64(k)
		c.win -= int64(k)
		c.spoke, c.care.wrote = true, b.now
		if n += k; last {
			break
		}
	}
	if n < len(p) && h.win > 0 && !h.queued {
		h.queued = true
		c.blocked = append(c.blocked, s)
	}
	c.mu.Unlock()
	b.touch(c)
	return n
}

// dropBlocked takes s, which has ended here, from those that wait for the window of c: it may never open. c.mu and s.mu are held.
func (c *conn) dropBlocked(s *stream) {
	if h := &s.h[c.side()]; h.queued {
		h.queued = false
		c.blocked = slices.DeleteFunc(c.blocked, func(o *stream) bool { return o == s })
	}
}

// push sends on what waits for side i. s.mu is held.
func (s *stream) push(i, most int, b *batch) {
	h := &s.h[i]
	if h.c == nil || h.done || h.queued {
		return
	}
	if p := h.pend[h.off:]; len(p) > 0 {
		n := s.write(i, p, h.end && h.trailer == nil, most, b)
		if h.off += n; n > 0 {
			h.moved = b.now
		}
		s.unhold(i, n, b)
		s.credit(1-i, n, b)
		if n < len(p) {
			return
		}
		giveBuf(h.pend)
		h.pend, h.off = nil, 0
	}
	if t := h.trailer; t != nil {
		h.trailer = nil
		s.headers(i, t, true, b)
	}
}

func (s *stream) unhold(i, n int, b *batch) {
	if c := s.h[1-i].c; c != nil && n > 0 {
		s.owe(i, -n)
		c.grant(b)
	}
}

// window is a WINDOW_UPDATE of stream id of c, or what a change of SETTINGS makes of it; false: the window is too large now.
func (s *stream) window(c *conn, id uint32, n int64, b *batch) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.runs(c, id) {
		return true
	}
	i := c.side()
	h := &s.h[i]
	if h.win += n; h.win > 1<<31-1 {
		if i == 0 {
			s.reset0(codeFlowControl, b)
		} else {
			s.reply(fault(FlagProtocol, grpcInternal, ReasonMalformed, "upstream window overflow"), b)
		}
		return false
	}
	if n > 0 && len(h.pend) > 0 {
		s.push(i, writeHigh, b)
		s.settle(b)
	}
	return true
}

// Buffers for what waits. They grow to a stream's window at most.
var bufs sync.Pool

func takeBuf() []byte {
	if p, ok := bufs.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return make([]byte, 0, 2*maxFrame)
}

func giveBuf(p []byte) {
	if cap(p) >= 2*maxFrame && cap(p) <= 1<<20 {
		bufs.Put(&p)
	}
}
