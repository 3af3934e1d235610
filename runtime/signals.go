package runtime

import (
	"os"
	"sync"
	"syscall"
)

// handle does what signals ask for until stopHandling.
func (s *sidecar) handle(signals <-chan os.Signal) {
	over := make(chan struct{})
	var done sync.WaitGroup
	s.stopHandling = func() { close(over); done.Wait() }
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
}

func (s *sidecar) signal(sig os.Signal) {
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT:
		if s.asked.CompareAndSwap(nil, &sig) {
			s.end()
			return
		}
		s.log.Warn("ending at once", "signal", sig.String())
		s.cutShort()
	case syscall.SIGHUP:
		s.reloads.ask()
	default:
		if c := s.child.Load(); c != nil {
			c.signal(sig.(syscall.Signal))
		}
	}
}

// farewell is the signal that the application is ended with: the one that the sidecar got.
func (s *sidecar) farewell() syscall.Signal {
	if sig := s.asked.Load(); sig != nil {
		return (*sig).(syscall.Signal)
	}
	return syscall.SIGTERM
}
