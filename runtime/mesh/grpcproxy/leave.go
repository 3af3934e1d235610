package grpcproxy

import (
	"encoding/binary"
	"maps"
	"math"
	"strings"
	"time"
)

const goAwayPing = "outrigg!"

// goAwayGracefully announces the end, then waits for the peer to have heard of it before naming the last stream.
func (c *conn) goAwayGracefully() {
	b := newBatch()
	c.r.count.goAways.Add(1)
	c.send(b, func(o []byte) []byte {
		return append(appendFrame(appendGoAway(o, math.MaxInt32, codeNo, ""), 8, fPing, 0, 0), goAwayPing...)
	})
	b.end()
	c.r.tasks.After(time.Second, func() { b := newBatch(); c.goAway(b); b.end() })
}

func (c *conn) goAway(b *batch) {
	c.mu.Lock()
	if !c.gone && !c.closed {
		c.gone, c.draining = true, true
		c.leaving.Store(true)
		c.out = appendGoAway(c.out, c.last, codeNo, "")
	}
	c.mu.Unlock()
	b.touch(c)
}

// peerLeaves handles a server's GOAWAY: no new streams, and those above last were not touched.
func (c *conn) peerLeaves(last uint32, refusal string, b *batch) {
	c.mu.Lock()
	c.draining = true
	above := maps.Clone(c.streams)
	c.mu.Unlock()
	c.up.remove(c)
	maps.DeleteFunc(above, func(id uint32, _ *stream) bool { return id <= last })
	for id, s := range above {
		if refusal != "" {
			s.turnedAway(c, id, fault(FlagRefused, grpcUnavailable, ReasonUpstreamClosed, c.up.Name+" refuses: "+refusal), b)
			continue
		}
		s.reset(c, id, codeRefused, b)
	}
	b.touch(c)
	b.wake = append(b.wake, c.up)
}

// refusalIn is the reason in a GOAWAY of a server that takes no connection like this one (INADEQUATE_SECURITY), if it says one.
func refusalIn(p []byte) string {
	const inadequate, most = 0xc, 300
	if len(p) <= 8 || binary.BigEndian.Uint32(p[4:]) != inadequate {
		return ""
	}
	return strings.ToValidUTF8(string(p[8:min(len(p), 8+most)]), "?")
}

// turnedAway ends a request that its upstream will never serve.
func (s *stream) turnedAway(c *conn, id uint32, e *Error, b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.runs(c, id) {
		return
	}
	s.h[1].done, s.h[1].rdone = true, true
	if !s.finished.Load() && !s.replay(Failed{Flag: e.Flag}, e, b) {
		s.reply(e, b)
	}
}

const lastWordsTime = 100 * time.Millisecond

// lastWords gives another goroutine that writes just now a moment to take a GOAWAY along: after hangUp it would be lost.
func (c *conn) lastWords() {
	c.mu.Lock()
	if !c.writing {
		c.mu.Unlock()
		return
	}
	said := make(chan struct{})
	c.said = said
	c.mu.Unlock()
	late := time.NewTimer(lastWordsTime)
	defer late.Stop()
	select {
	case <-said:
	case <-late.C:
	case <-c.r.ctx.Done():
	}
}

// hangUp closes so that what was written last still arrives.
func (c *conn) hangUp() {
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
		if c.inl != nil {
			c.inl.CloseWrite()
		}
		time.AfterFunc(time.Second, func() { c.nc.Close() })
		return
	}
	c.nc.Close()
}
