package grpcproxy

// What waits for a downstream connection's reader uses up the credit of the upstream connection that sent it, which many
// share. So one downstream connection may have MaxPending bytes wait, less while the shared credit is scarce, and a
// stream whose reader takes nothing for StallTimeout meanwhile is ended: others must not stand still for it.

// overdrawn says that so much waits for s's client that what came now is one too many. s.mu is held.
func (s *stream) overdrawn() bool {
	down, up := s.h[0].c, s.h[1].c
	owed := down.owed.Load()
	return owed > int64(s.r.MaxPending) || scarce(up) && owed > int64(s.r.MaxHeld/16)
}

// scarce says that most of the credit that up may lend is lent.
func scarce(up *conn) bool { return up.held.Load() > int64(up.r.MaxHeld)/4*3 }

// tooSlow ends s because of its reader. s.mu is held.
func (s *stream) tooSlow(b *batch) {
	s.drop(0, b)
	s.reply(fault(FlagLimited, grpcExhausted, ReasonSlowReader, "the client reads too slowly"), b)
}

// unstall ends streams whose readers have taken nothing for StallTimeout, if the connection's credit is used up.
func (c *conn) unstall(b *batch) {
	if c.held.Load() <= int64(c.r.MaxHeld)/2 {
		return
	}
	c.mu.Lock()
	all := make([]*stream, 0, len(c.streams))
	for _, s := range c.streams {
		all = append(all, s)
	}
	c.mu.Unlock()
	for _, s := range all {
		s.mu.Lock()
		if h := &s.h[0]; len(h.pend) > 0 && b.now-h.moved > int64(c.r.StallTimeout) && !s.finished.Load() {
			s.tooSlow(b)
		}
		s.mu.Unlock()
	}
}

// owe accounts for n bytes that begin (or, negative, cease) to wait for side i. s.mu is held.
func (s *stream) owe(i, n int) {
	from := s.h[1-i].c
	if from == nil {
		return
	}
	from.held.Add(int64(n))
	if i == 0 {
		s.h[0].c.owed.Add(int64(n))
	}
}
