package grpcproxy

// reset is an RST_STREAM of stream id of c, or a GOAWAY that means one.
func (s *stream) reset(c *conn, id, code uint32, b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := c.side()
	if s.finished.Load() || !s.runs(c, id) {
		return
	}
	h := &s.h[i]
	whole := h.rdone
	h.done, h.rdone = true, true
	if i == 0 {
		s.out.Reset, s.out.ByClient = code, true
	} else if !whole && s.resetElsewhere(code, b) {
		return
	} else if !whole && s.overdue(b) { // a server that was told the deadline may end the stream so; the client may know of no deadline
		s.reply(s.tooLate(b.now, b), b)
		return
	} else if whole { // the response is all here; the server wants no more of the request
		s.drop(1, b)
	} else {
		if s.out.Reset, s.out.Flag = code, FlagReset; code == codeRefused {
			s.out.Flag = FlagRefused
		}
		s.kill(0, code, b)
	}
	s.settle(b)
}

// resetElsewhere has a request that its upstream has reset go to another; false: it may not. s.mu is held.
func (s *stream) resetElsewhere(code uint32, b *batch) bool {
	e := fault(FlagReset, grpcUnavailable, ReasonConnectionLost, "the upstream reset the stream")
	switch {
	case code == codeRefused:
		e.Flag = FlagRefused
	case s.overdue(b):
		e = s.tooLate(b.now, b)
	}
	return s.replay(Failed{Flag: e.Flag, Sent: code != codeRefused}, e, b)
}

// reset0 ends the stream for a fault of the client. s.mu is held.
func (s *stream) reset0(code uint32, b *batch) {
	if !s.finished.Load() {
		s.h[0].c.faulty.Add(1)
		s.out.Reset, s.out.ByClient, s.out.Flag = code, true, FlagProtocol
		s.kill(0, code, b)
		s.settle(b)
	}
}

// lost is the end of c, which stream id was on.
func (s *stream) lost(c *conn, id uint32, err error, b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.runs(c, id) {
		return
	}
	i := c.side()
	h := &s.h[i]
	whole := h.rdone
	h.done, h.rdone = true, true
	if s.finished.Load() {
		return
	}
	if i == 0 {
		s.out.Reset, s.out.ByClient = codeCancel, true
	} else if !whole {
		e := fault(FlagClosed, grpcUnavailable, ReasonConnectionLost, "connection to "+h.c.up.Name+" lost: "+err.Error())
		if err == errHTTP1 || err == errNoHTTP { // and will tomorrow: to call it again is of no use
			e = fault(FlagProtocol, grpcInternal, ReasonMalformed, h.c.up.Name+" does not speak gRPC: "+err.Error()+
				"; if it is the application's own port, set the protocol of the service (app.services, or app.protocol) to what it speaks")
		}
		if !s.replay(Failed{Flag: e.Flag, Sent: true}, e, b) {
			s.reply(e, b)
		}
		return
	}
	s.settle(b)
}

// reply ends the stream with a status of our own, after the data that is here. s.mu is held.
func (s *stream) reply(e *Error, b *batch) {
	if s.finished.Load() || s.h[0].end && s.h[0].trailer != nil || s.h[0].done {
		return
	}
	s.out.Status, s.out.Local, s.out.Flag, s.out.Err = e.Code, true, e.Flag, e
	var f []Field
	if !s.began {
		f = append(f, okHeaders...)
	}
	f = e.trailer(f, s.r.Origin)
	s.kill(1, codeCancel, b)
	if e.Flag == FlagTimeout {
		s.drop(0, b) // nobody waits for the data
	}
	s.began = true
	s.headers(0, f, true, b)
	s.settle(b)
}

// kill sends RST_STREAM to side i unless it has ended. s.mu is held.
func (s *stream) kill(i int, code uint32, b *batch) {
	h := &s.h[i]
	s.drop(i, b)
	if h.c != nil && !(h.done && h.rdone) {
		h.c.rst(h.id, code, b)
	}
	h.done, h.rdone = true, true
}

// drop forgets what waits for side i. s.mu is held.
func (s *stream) drop(i int, b *batch) {
	h := &s.h[i]
	s.unhold(i, len(h.pend)-h.off, b)
	giveBuf(h.pend)
	h.pend, h.off, h.trailer = nil, 0, nil
}
