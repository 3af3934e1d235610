package grpcproxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"time"
)

func (c *conn) readFrames(b *batch) error {
	full, whole := c.rw == len(c.in), false
	if !c.begun {
		have := c.in[:c.rw]
		if len(have) < len(preface) {
			if !bytes.HasPrefix([]byte(preface), have) {
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		if string(have[:len(preface)]) != preface {
			return io.ErrUnexpectedEOF
		}
		c.rp, c.begun = len(preface), true
	}
	if err := c.foreign(c.in[c.rp:c.rw]); err != nil {
		return err
	}
	for c.rw-c.rp >= frameHeader {
		h := c.in[c.rp:c.rw]
		n := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		if n > maxFrame {
			return connError{codeFrameSize, "frame too large"}
		}
		if len(h) < frameHeader+n {
			break
		}
		if err := c.frame(h[3], h[4], binary.BigEndian.Uint32(h[5:])&math.MaxInt32, h[frameHeader:frameHeader+n], b); err != nil {
			return err
		}
		if err := c.provoked(b); err != nil {
			return err
		}
		c.rp += frameHeader + n
		whole = true
	}
	c.keepTime(whole, b)
	if len(c.fresh) > 0 {
		c.promoteAll(b)
	}
	if c.rp == c.rw {
		c.rp, c.rw = 0, 0
	} else if c.rp > 0 && len(c.in)-c.rp < frameHeader+maxFrame {
		c.rw = copy(c.in, c.in[c.rp:c.rw])
		c.rp = 0
	}
	if full && len(c.in) < readBuffer {
		c.in = append(make([]byte, 0, readBuffer), c.in[:c.rw]...)[:readBuffer]
	}
	return nil
}

// What an upstream is whose first bytes cannot be SETTINGS.
var (
	errHTTP1  = connError{codeProtocol, "it answers in HTTP/1.1"}
	errNoHTTP = connError{codeProtocol, "it answers what is no HTTP/2"}
)

// foreign tells whether an upstream speaks something else: in it the length of the first frame, which is SETTINGS, would be over 64 KiB. Even the
// alert of a TLS server is as long as what is looked at.
func (c *conn) foreign(first []byte) error {
	const http1 = "HTTP/1."
	switch {
	case c.up == nil || c.set || len(first) < len(http1) || first[0] == 0:
		return nil
	case string(first[:len(http1)]) == http1:
		return errHTTP1
	}
	return errNoHTTP
}

// keepTime keeps since when a client owes the rest of something. whole says that a frame has ended.
func (c *conn) keepTime(whole bool, b *batch) {
	since := c.blockAt
	switch {
	case c.blockID != 0:
		c.partAt = 0
	case c.rp == c.rw:
		c.partAt, since = 0, 0
	default:
		if whole || c.partAt == 0 {
			c.partAt = b.now
		}
		since = c.partAt
	}
	if since != c.unended.Load() {
		c.unended.Store(since)
	}
}

// idle counts frames that carry nothing.
func (c *conn) idle(b *batch) error {
	c.tick(b)
	if c.control++; c.control > maxControl {
		return connError{codeCalm, "too many control frames"}
	}
	return nil
}

// rapid counts streams that their client resets as soon as it has opened them, which costs it nothing and the limit of concurrent
// streams does not hold back. One that has waited for an answer was within that limit: many of those end at once when a
// callee hangs.
func (c *conn) rapid(s *stream, b *batch) error {
	if c.up != nil || b.now-s.born > int64(rapidReset) {
		return nil
	}
	return c.reset(1, b)
}

// provoked counts streams that the client made us reset, by breaking the rules on them: that costs it as little.
func (c *conn) provoked(b *batch) error {
	if c.faulty.Load() == 0 {
		return nil
	}
	return c.reset(int(c.faulty.Swap(0)), b)
}

func (c *conn) reset(n int, b *batch) error {
	c.tick(b)
	if c.resets += n; c.resets > c.r.MaxResets {
		return connError{codeCalm, "too many resets"}
	}
	return nil
}

func (c *conn) tick(b *batch) {
	if b.now-c.second > int64(time.Second) {
		c.second, c.control, c.resets = b.now, 0, 0
	}
}

func (c *conn) frame(typ, flags byte, id uint32, p []byte, b *batch) error {
	if c.blockID != 0 && (typ != fContinuation || id != c.blockID) {
		return connError{codeProtocol, "CONTINUATION expected"}
	}
	if !c.set && typ != fSettings {
		return connError{codeProtocol, "SETTINGS expected"}
	}
	switch typ {
	case fData, fHeaders, fReset, fPriority, fContinuation:
		if id == 0 {
			return connError{codeProtocol, "stream 0"}
		}
	case fSettings, fPing, fGoAway:
		if id != 0 {
			return connError{codeProtocol, "stream not 0"}
		}
	}
	if len(c.fresh) > 0 && typ != fData && typ != fPing && !(typ == fHeaders && c.fresh[len(c.fresh)-1].id < id) {
		c.promoteAll(b)
	}
	flow := len(p)
	if (typ == fData || typ == fHeaders) && flags&flagPadded != 0 {
		if len(p) == 0 || int(p[0]) >= len(p) {
			return connError{codeProtocol, "padding"}
		}
		p = p[1 : len(p)-int(p[0])]
	}
	switch typ {
	case fData:
		c.lastHeard.Store(b.now)
		return c.data(id, p, flow, flags&flagEnd != 0, b)
	case fHeaders:
		c.lastHeard.Store(b.now)
		c.selfish = false
		if flags&flagPriority != 0 {
			if len(p) < 5 {
				return connError{codeFrameSize, "HEADERS"}
			}
			c.selfish = binary.BigEndian.Uint32(p)&math.MaxInt32 == id
			p = p[5:]
		}
		if flags&flagEndHeaders != 0 {
			return c.headers(id, flags&flagEnd != 0, p, b)
		}
		c.block, c.blockID, c.blockEnd, c.frags = append(c.block[:0], p...), id, flags&flagEnd != 0, 0
		c.blockAt = b.now
	case fContinuation:
		if c.blockID == 0 {
			return connError{codeProtocol, "CONTINUATION of nothing"}
		}
		if c.frags++; c.frags > 32 || len(c.block)+len(p) > 2*c.r.MaxHeaderList+maxFrame {
			return connError{codeCalm, "CONTINUATION"}
		}
		c.block = append(c.block, p...)
		if flags&flagEndHeaders != 0 {
			c.blockID = 0
			return c.headers(id, c.blockEnd, c.block, b)
		}
	case fReset:
		if len(p) != 4 {
			return connError{codeFrameSize, "RST_STREAM"}
		}
		if c.isIdle(id) {
			return connError{codeProtocol, "RST_STREAM on an idle stream"}
		}
		c.r.count.resets.Add(1)
		s := c.find(id)
		if s == nil {
			return c.idle(b)
		}
		if err := c.rapid(s, b); err != nil {
			return err
		}
		s.reset(c, id, binary.BigEndian.Uint32(p), b)
	case fPriority:
		return c.priority(id, p, b)
	case fSettings:
		return c.settings(flags, p, b)
	case fPing:
		if len(p) != 8 {
			return connError{codeFrameSize, "PING"}
		}
		if flags&flagEnd != 0 {
			if string(p) == goAwayPing {
				c.goAway(b)
			}
			return nil
		}
		if err := c.ping(p, b); err != nil {
			return err
		}
		return c.idle(b)
	case fGoAway:
		if len(p) < 8 {
			return connError{codeFrameSize, "GOAWAY"}
		}
		c.r.count.goAways.Add(1)
		if c.up != nil {
			c.peerLeaves(binary.BigEndian.Uint32(p)&math.MaxInt32, refusalIn(p), b)
		}
	case fWindow:
		if len(p) != 4 {
			return connError{codeFrameSize, "WINDOW_UPDATE"}
		}
		return c.windowUpdate(id, int64(binary.BigEndian.Uint32(p)&math.MaxInt32), b)
	case fPush:
		return connError{codeProtocol, "PUSH_PROMISE"}
	default:
		return c.idle(b)
	}
	return nil
}

func (c *conn) find(id uint32) *stream {
	c.mu.Lock()
	s := c.streams[id]
	c.mu.Unlock()
	return s
}

func (c *conn) data(id uint32, p []byte, flow int, end bool, b *batch) error {
	if c.credit.Add(-int64(flow)) < 0 {
		return connError{codeFlowControl, "connection window"}
	}
	c.unacked.Add(int64(flow))
	if len(c.fresh) > 0 {
		if k := c.opened(id); k != nil {
			c.localData(k, p, flow, end, b)
			c.grant(b)
			return nil
		}
	}
	c.mu.Lock()
	s := c.streams[id]
	c.mu.Unlock()
	switch {
	case s == nil && c.isIdle(id):
		return connError{codeProtocol, "DATA on an idle stream"}
	case s == nil:
		c.late(id, b)
	case s.call != nil:
		c.streamData(s, p, flow, end, b)
	default:
		s.data(c, id, p, flow, end, b)
	}
	c.grant(b)
	if len(p) == 0 && !end {
		return c.idle(b)
	}
	return nil
}

// grant gives the connection's window back: at once, unless too much is held already.
func (c *conn) grant(b *batch) {
	if c.unacked.Load() < int64(c.r.ConnWindow/4) || c.held.Load() > int64(c.r.MaxHeld) {
		return
	}
	if n := c.unacked.Swap(0); n > 0 {
		c.credit.Add(n)
		c.send(b, func(o []byte) []byte { return appendU32(o, fWindow, 0, uint32(n)) })
	}
}

func (c *conn) headers(id uint32, end bool, block []byte, b *batch) error {
	var over bool
	var err error
	if c.fields, over, err = c.dec.decode(block, c.r.MaxHeaderList, c.fields[:0]); err != nil {
		return connError{codeCompression, err.Error()}
	}
	if c.up == nil {
		return c.request(id, end, over, b)
	}
	if s := c.find(id); s != nil {
		c.head = Headers{Fields: c.fields}
		s.response(c, id, end, over, b)
	}
	return nil
}
