package grpcproxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"time"
)

func (c *conn) readFrames(b *batch) error {
	full := c.rw == len(c.in)
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
		c.rp += frameHeader + n
	}
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

// idle counts frames that carry nothing.
func (c *conn) idle(b *batch) error {
	c.tick(b)
	if c.control++; c.control > maxControl {
		return connError{codeCalm, "too many control frames"}
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
		return c.data(id, p, flow, flags&flagEnd != 0, b)
	case fHeaders:
		if flags&flagPriority != 0 {
			if len(p) < 5 {
				return connError{codeFrameSize, "HEADERS"}
			}
			p = p[5:]
		}
		if flags&flagEndHeaders != 0 {
			return c.headers(id, flags&flagEnd != 0, p, b)
		}
		c.block, c.blockID, c.blockEnd, c.frags = append(c.block[:0], p...), id, flags&flagEnd != 0, 0
	case fContinuation:
		if c.frags++; c.blockID == 0 || c.frags > 32 || len(c.block)+len(p) > 2*c.r.MaxHeaderList+maxFrame {
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
		c.tick(b)
		if c.resets++; c.up == nil && c.resets > c.r.MaxResets {
			return connError{codeCalm, "too many resets"}
		}
		if s := c.find(id); s != nil {
			s.reset(c.side(), binary.BigEndian.Uint32(p), b)
		}
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
		c.ping(p, b)
		return c.idle(b)
	case fGoAway:
		if len(p) < 8 {
			return connError{codeFrameSize, "GOAWAY"}
		}
		if c.up != nil {
			c.peerLeaves(binary.BigEndian.Uint32(p)&math.MaxInt32, b)
		}
	case fWindow:
		if len(p) != 4 {
			return connError{codeFrameSize, "WINDOW_UPDATE"}
		}
		n := int64(binary.BigEndian.Uint32(p) & math.MaxInt32)
		if id != 0 {
			if s := c.find(id); s != nil {
				s.window(c.side(), n, b)
			}
			return nil
		}
		c.mu.Lock()
		c.win += n
		bad := c.win > math.MaxInt32 || n == 0
		c.mu.Unlock()
		if bad {
			return connError{codeFlowControl, "WINDOW_UPDATE"}
		}
		c.pump(b)
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
	s, idle := c.streams[id], c.up == nil && id > c.last && !c.gone || c.up != nil && id >= c.next
	c.mu.Unlock()
	if idle {
		return connError{codeProtocol, "DATA on an idle stream"}
	}
	if s != nil && s.call != nil {
		c.streamData(s, p, flow, end, b)
	} else if s != nil {
		s.data(c.side(), p, flow, end, b)
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
		s.response(&c.head, end, over, b)
	}
	return nil
}

func (c *conn) settings(flags byte, p []byte, b *batch) error {
	if flags&flagEnd != 0 {
		return nil
	}
	if len(p)%6 != 0 {
		return connError{codeFrameSize, "SETTINGS"}
	}
	var delta int64
	var streams []*stream
	c.mu.Lock()
	if !c.set {
		c.set, c.maxStreams = true, math.MaxUint32
		c.nc.SetReadDeadline(time.Time{})
	}
	for ; len(p) > 0; p = p[6:] {
		v := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case setTableSize:
			c.enc.setMax(v)
		case setMaxStreams:
			c.maxStreams = v
		case setWindow:
			if v > math.MaxInt32 {
				c.mu.Unlock()
				return connError{codeFlowControl, "SETTINGS"}
			}
			delta += int64(v) - c.initWin
			c.initWin = int64(v)
		}
	}
	if delta != 0 {
		for _, s := range c.streams {
			streams = append(streams, s)
		}
	}
	c.mu.Unlock()
	for _, s := range streams {
		s.window(c.side(), delta, b)
	}
	c.send(b, func(o []byte) []byte { return appendFrame(o, 0, fSettings, flagEnd, 0) })
	if c.up != nil {
		b.wake = append(b.wake, c.up)
	}
	c.control += 9 // SETTINGS count tenfold
	return c.idle(b)
}
