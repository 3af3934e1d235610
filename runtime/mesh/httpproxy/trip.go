package httpproxy

import "io"

// trip sends a request that is complete, and reads the first of the answer. The poller is armed first, then the check that
// nothing has come in while the connection was idle serves as the failing read that would come after the write: one call less.
// An edge from before the poller was armed would be lost, hence the check on new connections, too.
func (uc *upConn) trip(req []byte) (sent int, err error) {
	if uc.tfn == nil {
		uc.tfn = uc.ready
	}
	uc.req, uc.sent, uc.bad = req, 0, nil
	if err := uc.raw.Read(uc.tfn); err != nil {
		return uc.sent, err
	}
	if uc.sent < len(req) && (uc.bad == nil || again(uc.bad)) {
		n, err := uc.nc.Write(req[uc.sent:])
		return uc.sent + n, err
	}
	if uc.pooled && uc.sent == 0 && uc.bad != nil {
		uc.bad = errDead
	}
	return uc.sent, uc.bad
}

// ready writes at its first call and reads at the others, as long as it returns false.
func (uc *upConn) ready(fd uintptr) bool {
	if uc.req != nil {
		empty := sysEmpty(fd, false)
		if uc.pooled && !empty {
			uc.bad = errDead
			return true
		}
		uc.sent, uc.bad = sysWrite(fd, uc.req)
		full := uc.sent == len(uc.req)
		if uc.req = nil; empty || !full {
			return !full
		}
	}
	if uc.w, uc.bad = sysRead(fd, uc.buf); again(uc.bad) {
		uc.bad = nil
		return false
	}
	if uc.w == 0 && uc.bad == nil {
		uc.bad = io.EOF
	}
	return true
}

// live says if nothing has come in while the connection was idle: an end, or bytes that belong to no request.
func (uc *upConn) live() bool {
	if !uc.pooled || uc.raw == nil {
		return true
	}
	alive := false
	err := uc.raw.Read(func(fd uintptr) bool {
		// TLS has messages of its own, the last of which says that it ends.
		alive = sysEmpty(fd, false) || uc.tcp == nil && sysEmpty(fd, true) && !hungUp(fd, false)
		return true
	})
	return err == nil && alive
}
