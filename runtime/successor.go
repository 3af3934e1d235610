package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/runtime/access"
)

const acceptPause = time.Second // after a connection that could not be accepted

// successor is the process that has replaced this one.
type successor struct {
	link  *link
	taken []string
}

func (n *successor) has(name string) bool { return slices.Contains(n.taken, name) }

// serveHandover waits for whoever wants to replace this sidecar, one after the other: who comes while another is served is served
// by that one, when it has taken over.
func (s *sidecar) serveHandover() {
	if s.sockets.handover == nil {
		return
	}
	s.tasks.Go(func() {
		told := ""
		for {
			nc, err := s.sockets.handover.Accept()
			if err == nil {
				if s.handOver(&link{nc: nc.(*net.UnixConn)}) {
					s.sockets.handover.Close() // the other one accepts on it
					return
				}
				continue
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err.Error() != told {
				told = err.Error()
				s.log.Warn("a sidecar that may want to replace this one cannot be let in", "err", err)
			}
			if !pause(s.bg, acceptPause) {
				return
			}
		}
	})
}

// handOver serves one that wants to replace this sidecar, until it has or is gone.
func (s *sidecar) handOver(l *link) (replaced bool) {
	stop := context.AfterFunc(s.bg, l.close)
	defer stop()
	l.within(helloTime)
	hello, err := l.receive()
	if err == nil {
		err = s.mayHandOver(l)
	}
	if err != nil {
		s.log.Warn("asked to hand over, and did not", "err", err)
		l.send(message{Version: s.opts.Version, Error: err.Error()})
		l.close()
		return false
	}
	log := s.log.With("by_pid", hello.PID, "by_version", hello.Version)
	log.Info("another sidecar starts to replace this one")
	taken, err := s.pass(l)
	if err == nil && len(taken.Taken) > 0 && s.after.CompareAndSwap(nil, &successor{l, taken.Taken}) {
		log.Info("replaced")
		s.end()
		return true
	}
	l.close()
	if !s.ending.Load() { // else it was this one that hung up, and the other goes on
		s.sockets.lent.Store(false)
		log.Warn("not replaced: the other sidecar ended before it was ready; this one goes on", "err", err)
	}
	return false
}

func (s *sidecar) mayHandOver(l *link) error {
	door := &access.Policy{Mode: access.SameUser}
	switch err := door.Admit(door.Identify(l.nc), func(string) string { return "" }); {
	case err != nil:
		return err
	case s.child.Load() != nil:
		return errors.New("it has started the application itself (run -- CMD) and must stay its parent: restart both")
	case s.ending.Load():
		return errors.New("it is ending: start when it has ended")
	}
	return nil
}

// pass passes the sockets and waits until the other side has taken them over.
func (s *sidecar) pass(l *link) (taken message, err error) {
	m := message{Version: s.opts.Version}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	add := func(fd uintptr, as handedSocket) error {
		copied, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			fds, m.Sockets = append(fds, copied), append(m.Sockets, as)
		}
		return err
	}
	for _, slot := range s.sockets.slots(s.config(), s.dataDir) {
		if *slot.into == nil {
			continue
		}
		as := handedSocket{slot.name, slot.address, slot.unix && !slices.Contains(s.sockets.paths, slot.address)}
		if err := control(*slot.into, func(fd uintptr) error { return add(fd, as) }); err != nil {
			return m, err
		}
	}
	if err := add(s.sockets.lock.Fd(), handedSocket{Name: lockName}); err != nil {
		return m, err
	}
	s.sockets.lent.Store(true)
	if err := l.send(m, fds...); err != nil {
		return m, err
	}
	l.nc.SetDeadline(time.Time{}) // it takes its time
	return l.receive()
}

// control lends a listener's descriptor.
func control(ln net.Listener, do func(fd uintptr) error) error {
	if p, ok := ln.(*patient); ok {
		ln = p.Listener
	}
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T has no descriptor", ln)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = do(fd) }); e != nil {
		return e
	}
	return err
}
