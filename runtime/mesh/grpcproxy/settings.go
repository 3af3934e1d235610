package grpcproxy

import (
	"encoding/binary"
	"maps"
	"math"
	"time"
)

// settings takes over what the peer asks for (RFC 9113 section 6.5) and acknowledges it.
func (c *conn) settings(flags byte, p []byte, b *batch) error {
	if flags&flagEnd != 0 {
		if len(p) > 0 {
			return connError{codeFrameSize, "SETTINGS"}
		}
		return nil
	}
	if len(p)%6 != 0 {
		return connError{codeFrameSize, "SETTINGS"}
	}
	var delta int64
	var streams map[uint32]*stream
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
		case setPush:
			if v > 1 {
				c.mu.Unlock()
				return connError{codeProtocol, "SETTINGS"}
			}
		case setMaxFrame: // we send no larger frames than every peer takes
			if v < maxFrame || v > 1<<24-1 {
				c.mu.Unlock()
				return connError{codeProtocol, "SETTINGS"}
			}
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
		streams = maps.Clone(c.streams)
	}
	c.mu.Unlock()
	c.send(b, func(o []byte) []byte { return appendFrame(o, 0, fSettings, flagEnd, 0) }) // before what follows from them
	for id, s := range streams {
		if !s.window(c, id, delta, b) {
			return connError{codeFlowControl, "SETTINGS"} // RFC 9113 section 6.9.2
		}
	}
	if c.up != nil {
		b.wake = append(b.wake, c.up)
	}
	c.control += 9 // SETTINGS count tenfold
	return c.idle(b)
}
