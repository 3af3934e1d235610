package httpproxy

import (
	"io"
	"net"
	"sync"
	"syscall"
)

const (
	commonBuffer = 16<<10 + moreBytes
	bigBuffer    = 64 << 10
	spliceMin    = 16 << 10
	splicePart   = 256 << 10 // must go through within the stall timeout
	maxExt       = 16 << 10
	maxLine      = 1 << 10
)

var (
	bufs sync.Pool // of *[]byte, long enough for most heads that are allowed
	bigs = sync.Pool{New: func() any { b := make([]byte, bigBuffer); return &b }}
)

// stream is one end of a connection with its read buffer, which it has only while there is something to read.
type stream struct {
	nc   net.Conn
	tcp  *net.TCPConn    // nil: TLS and the like
	raw  syscall.RawConn // of the socket below
	buf  []byte
	own  *[]byte
	r, w int
	size int

	wfn func(uintptr) bool // write's, with its arguments and results
	p   []byte
	n   int
	err error
}

func newStream(nc net.Conn, size int) stream {
	s := stream{nc: nc, size: size}
	s.tcp, _ = nc.(*net.TCPConn)
	for rawSockets {
		if sc, ok := nc.(syscall.Conn); ok {
			s.raw, _ = sc.SyscallConn()
			break
		}
		t, ok := nc.(interface{ NetConn() net.Conn }) // of TLS, and of what is between that and the socket
		if !ok {
			break
		}
		nc = t.NetConn()
	}
	return s
}

func (s *stream) acquire() {
	if s.own == nil {
		s.own, _ = bufs.Get().(*[]byte)
		if s.own == nil || len(*s.own) < s.size {
			b := make([]byte, max(s.size, commonBuffer))
			s.own = &b
		}
		s.buf, s.r, s.w = (*s.own)[:s.size], 0, 0
	}
}

func (s *stream) release() {
	if s.own != nil {
		if len(*s.own) == bigBuffer {
			bigs.Put(s.own)
		} else {
			bufs.Put(s.own)
		}
		s.own, s.buf, s.r, s.w = nil, nil, 0, 0
	}
}

// fill reads more. What lies before s.r may be lost.
func (s *stream) fill() error {
	if s.r == s.w {
		if s.w == len(s.buf) && len(s.buf) < bigBuffer { // there is much of it
			s.release()
			s.own = bigs.Get().(*[]byte)
			s.buf = *s.own
		}
		s.r, s.w = 0, 0
	} else if s.w == len(s.buf) {
		if s.r == 0 {
			return errTooLarge
		}
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
	n, err := s.nc.Read(s.buf[s.w:])
	s.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func again(err error) bool { return err == syscall.EAGAIN || err == syscall.EINTR }

func (s *stream) write(p []byte) (int, error) {
	if s.tcp == nil || s.raw == nil {
		return s.nc.Write(p)
	}
	if s.wfn == nil {
		s.wfn = func(fd uintptr) bool {
			var n int
			n, s.err = sysWrite(fd, s.p[s.n:])
			s.n += n
			return s.n == len(s.p) || s.err != nil && !again(s.err)
		}
	}
	s.p, s.n, s.err = p, 0, nil
	err := s.raw.Write(s.wfn)
	if s.p = nil; err == nil {
		err = s.err
	}
	return s.n, err
}
