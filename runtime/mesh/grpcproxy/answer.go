package grpcproxy

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strconv"
	"time"
)

// respond ends the stream of a local call. s.mu is held.
func (s *stream) respond(resp []byte, st *Status, b *batch) {
	k, h := s.call, &s.h[0]
	if s.finished.Load() || h.done {
		return
	}
	if st != nil {
		s.out.Status = st.Code
	} else {
		s.out.Status, s.out.Received = 0, int64(len(resp))
	}
	s.out.Local = true
	h.c.mu.Lock()
	ok := h.c.answer(k, h.win, resp, st)
	h.c.mu.Unlock()
	if ok {
		h.done = true
		b.touch(h.c)
	} else if !s.r.lend(k, len(resp)) {
		s.reply(fault(FlagLimited, grpcExhausted, ReasonOverloaded, "too many large answers wait to be read"), b)
		return
	} else { // what does not fit goes as it can
		binary.BigEndian.PutUint32(resp[1:], uint32(len(resp)-5))
		s.began = true
		s.headers(0, append(slices.Clone(okHeaders), k.header...), false, b)
		n := s.write(0, resp, false, writeHigh, b)
		if n < len(resp) {
			h.pend, h.off = append(takeBuf(), resp[n:]...), 0
			h.end = true
		}
		s.headers(0, append(slices.Clone(okTrailers), k.trailer...), true, b)
	}
	s.settle(b)
}

// lend accounts for n bytes that k keeps until it ends.
func (r *Relay) lend(k *Call, n int) bool {
	if r.held.Add(int64(n)) > int64(r.MaxLocal) {
		r.held.Add(-int64(n))
		return false
	}
	k.sent += n
	return true
}

var (
	okHeaders  = []Field{newField(":status", "200"), newField("content-type", "application/grpc")}
	okTrailers = []Field{newField("grpc-status", "0")}
)

// answer appends a whole answer to the write buffer if windows and buffer have room for it. c.mu is held.
func (c *conn) answer(k *Call, win int64, resp []byte, st *Status) bool {
	if c.deaf() {
		return true
	}
	if st != nil {
		f := append(k.header[:len(k.header):len(k.header)], okHeaders...)
		f = append(f[len(k.header):], f[:len(k.header)]...) // pseudo headers first
		f = append(f, newField("grpc-status", strconv.Itoa(st.Code)))
		if st.Message != "" {
			f = append(f, newField("grpc-message", percentEncode(st.Message)))
		}
		if len(st.Details) > 0 {
			f = append(f, newField("grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(st.Details)))
		}
		c.putHeaders(k.id, append(f, k.trailer...), true)
		return true
	}
	n := len(resp)
	if int64(n) > win || int64(n) > c.win || len(c.blocked) > 0 || len(c.out)+n > writeHigh {
		return false
	}
	binary.BigEndian.PutUint32(resp[1:], uint32(n-5))
	if len(k.header) == 0 {
		c.putHeaders(k.id, okHeaders, false)
	} else {
		c.putHeaders(k.id, append(slices.Clone(okHeaders), k.header...), false)
	}
	c.win -= int64(n)
	for len(resp) > maxFrame {
		c.out = append(appendFrame(c.out, maxFrame, fData, 0, k.id), resp[:maxFrame]...)
		resp = resp[maxFrame:]
	}
	c.out = append(appendFrame(c.out, len(resp), fData, 0, k.id), resp...)
	if len(k.trailer) == 0 {
		c.putHeaders(k.id, okTrailers, true)
	} else {
		c.putHeaders(k.id, append(slices.Clone(okTrailers), k.trailer...), true)
	}
	return true
}

// ended tells a local call that its stream is over. s.mu is held.
func (s *stream) ended(b *batch) {
	k := s.call
	err := context.Canceled
	if s.out.Flag == FlagTimeout || s.deadline != 0 && b.now >= s.deadline {
		err = context.DeadlineExceeded
	}
	k.cancel(err)
	s.r.held.Add(-int64(k.sent))
	s.out.Path, s.out.Tag, s.out.ConnTag, s.out.Attempts, s.out.Start = k.Path(), k.tag, k.c.tag, 1, epoch.Add(time.Duration(k.start))
	s.out.Sent = int64(max(len(k.body), k.size))
}
