package httpproxy

import (
	"bytes"
	"errors"
	"io"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/internal/upkeep"
)

const maxInterim = 32 // 1xx answers to a request

// answer reads the answer and passes it on.
func (c *conn) answer(uc *upConn, pumping bool) (keep bool, f *Failure) {
	h, res := &c.req, &c.res
	if f := c.awaitAnswer(uc); f != nil {
		return false, f
	}
	if c.r.Again != nil && res.status >= 400 {
		f := &Failure{Flag: FlagStatus, Sent: true, Status: res.status, Response: res}
		if c.again(f) {
			f.again = true
			return false, f
		}
	}
	if c.r.Response != nil {
		c.r.Response(h, res.status, res)
	}
	if res.status == 101 {
		return false, c.switchOver(uc)
	}
	stream := fold(bytes.TrimSpace(firstPart(res.Get("content-type"))), "text/event-stream")
	if c.quiet = c.r.StallTimeout; stream {
		c.quiet = c.r.QuietTimeout
		c.bound(0, 0)
	} else {
		c.bound(h.Timeout, 0)
	}
	keep = h.persistent() && !c.r.leaving.Load()
	if pumping && len(c.pumped) == 0 && (h.expect && !c.continued || !res.persistent()) {
		keep = false // the client may take this for a reason not to send its body, and the server reads no more of it
	}
	m, length := res.framing(h)
	chunk := (m == chunked || m == toClose) && !h.v10
	if (m == chunked || m == toClose) && !chunk {
		keep = false
	}
	connection := ""
	if !keep {
		connection = "Connection: close\r\n"
	} else if h.v10 {
		connection = "Connection: keep-alive\r\n"
	}
	c.o.Status = res.status
	c.out.init(m, length, chunk)
	c.out.reserved = c.r.Reserved
	out, rerr, werr := c.out.move(&c.stream, &uc.stream, res.appendResponse((*c.scratch)[:0], length, chunk, connection), c.tickServe)
	*c.scratch = out[:0]
	if werr != nil {
		f := c.failed(werr, true)
		if f.Begun = true; f.Flag != FlagTimeout {
			f.Err = errGone
		}
		return false, f
	}
	if rerr != nil {
		f := c.failed(rerr, true)
		if h.v10 {
			upkeep.Reset(c.nc) // its end would look like the body's
		}
		f.Begun = true
		return false, f
	}
	return keep, nil
}

// awaitAnswer reads the head of the final answer, and passes interim ones on.
func (c *conn) awaitAnswer(uc *upConn) *Failure {
	h, res, s := &c.req, &c.res, &uc.stream
	for interim := 0; ; interim++ {
		for at := 0; ; {
			end, err := headEnd(s.buf[s.r:s.w], &at)
			if end > 0 {
				if err = res.parseResponse(s.buf[s.r : s.r+end]); err == nil {
					s.r += end
					break
				}
			}
			if err != nil {
				return c.failed(errAnswer, true)
			}
			if err = s.fill(); err != nil {
				if err == io.EOF && s.r != s.w {
					err = errAnswer
				}
				return c.failed(err, true)
			}
		}
		if res.status >= 200 || res.status == 101 {
			return nil
		}
		if interim == maxInterim || res.chunked || res.length > 0 {
			return c.failed(errAnswer, true)
		}
		c.continued = c.continued || res.status == 100
		if !h.v10 {
			if c.r.Response != nil {
				c.r.Response(h, res.status, res)
			}
			*c.scratch = res.appendResponse((*c.scratch)[:0], -1, false, "")
			if _, err := c.write(*c.scratch); err != nil {
				return &Failure{Flag: FlagClosed, Sent: true, Err: errGone}
			}
		}
	}
}

// framing is how the body of a response is delimited.
func (h *Head) framing(request *Head) (m mode, length int64) {
	switch {
	case request.Method == "HEAD" || h.status == 304:
		return none, h.length
	case h.status == 204:
		return none, -1
	case h.chunked:
		return chunked, -1
	case h.length >= 0:
		return fixed, h.length
	}
	return toClose, -1
}

// switchOver makes a tunnel of a request to change the protocol.
func (c *conn) switchOver(uc *upConn) *Failure {
	h, res := &c.req, &c.res
	if h.upgrade == nil || !offered(h.upgrade, res.upgrade) {
		return c.failed(errAnswer, true)
	}
	c.bound(0, 0)
	if !c.unwatch() || !c.arm(0, c.r.QuietTimeout) {
		return &Failure{Flag: FlagClosed, Sent: true, Err: errGone}
	}
	c.o.Status = 101
	*c.scratch = res.appendResponse((*c.scratch)[:0], -1, false, "Connection: Upgrade\r\nUpgrade: "+string(res.upgrade)+"\r\n")
	c.tunnel(uc, *c.scratch)
	return nil
}

func firstPart(value []byte) []byte {
	b, _, _ := bytes.Cut(value, []byte(";"))
	return b
}

// offered says if the server chose one of the protocols that the client named.
func offered(list, chosen []byte) bool {
	for len(list) > 0 && len(chosen) > 0 {
		t, rest, _ := bytes.Cut(list, []byte(","))
		if list = rest; bytes.EqualFold(bytes.Trim(t, " \t"), chosen) {
			return true
		}
	}
	return false
}

// tunnel passes bytes both ways, after head to the client, until both sides have ended.
func (c *conn) tunnel(uc *upConn, head []byte) {
	defer uc.drop()
	uc.acquire()
	c.bound(0, 0)
	c.arm(0, c.r.QuietTimeout)
	if _, err := c.nc.Write(head); err != nil {
		c.o.Err, c.o.ByClient = err, true
		return
	}
	back := make(chan struct{})
	go func() {
		c.in.n += c.pipe(&uc.stream, &c.stream)
		close(back)
	}()
	c.out.n = c.pipe(&c.stream, &uc.stream)
	<-back
}

// pipe passes bytes one way. It ends the other way, too, unless src has ended in order.
func (c *conn) pipe(dst, src *stream) (n int64) {
	for {
		if src.r < src.w {
			m, err := dst.nc.Write(src.buf[src.r:src.w])
			if n += int64(m); err != nil {
				break
			}
			src.r = src.w
		}
		if !c.arm(0, c.r.QuietTimeout) {
			break
		}
		if err := src.fill(); errors.Is(err, io.EOF) {
			if w, ok := dst.nc.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
				return n
			}
			break
		} else if err != nil {
			break
		}
	}
	src.nc.Close()
	dst.nc.Close()
	return n
}
