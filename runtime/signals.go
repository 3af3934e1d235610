package runtime

import (
	"os"
	"sync"
	"syscall"
)

// handle does what signals ask for until stop.
func (s *sidecar) handle(signals <-chan os.Signal) (stop func()) {
	over := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case sig := <-signals:
				s.signal(sig)
			case <-over:
				return
			}
		}
	})
	return func() { close(over); done.Wait() }
}

func (s *sidecar) signal(sig os.Signal) {
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT:
		s.endBy(sig)
	case syscall.SIGHUP:
		s.reloads.ask()
	case syscall.SIGQUIT: // some applications end from it, others tell how they are
		if !s.passOn(sig) {
			s.endBy(sig)
		}
	case syscall.SIGTSTP: // a terminal's Ctrl-Z reaches the sidecar alone
		s.passOn(sig)
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	default:
		s.passOn(sig)
	}
}

func (s *sidecar) endBy(sig os.Signal) {
	if s.asked.CompareAndSwap(nil, &sig) {
		s.end()
		return
	}
	select {
	case <-s.assembled:
		s.log.Warn("ending at once", "signal", sig.String())
	default: // it has no log yet, and ends at once anyway
	}
	s.cutShort()
}

// passOn passes a signal to the application that the sidecar has started; false if there is none.
func (s *sidecar) passOn(sig os.Signal) bool {
	s.starting.Lock()
	c := s.child.Load()
	s.starting.Unlock()
	if c == nil || c.hasEnded() {
		return false
	}
	c.signal(sig.(syscall.Signal))
	return true
}

// farewell is the signal that the application is ended with: the one that the sidecar got.
func (s *sidecar) farewell() syscall.Signal {
	if sig := s.asked.Load(); sig != nil {
		return (*sig).(syscall.Signal)
	}
	return syscall.SIGTERM
}
