package grpcproxy

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// script is a listener whose Accept does as it is told.
type script struct {
	net.Listener
	accept func() (net.Conn, error)
}

func (l script) Accept() (net.Conn, error) { return l.accept() }

func failed(why syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", why)}
}

// A moment without file descriptors, or without memory, does not end the service.
func TestAcceptOutlastsScarcity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, _ := MemPipe(1)
		fails, came, told := []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}, 0, 0
		err := Accept(script{accept: func() (net.Conn, error) {
			switch {
			case len(fails) > 0:
				why := fails[0]
				fails = fails[1:]
				return nil, failed(why)
			case came == 0:
				return first, nil
			}
			return nil, net.ErrClosed
		}}, nil, func(error) { told++ }, func(nc net.Conn) {
			if came++; nc != first {
				t.Error("another connection")
			}
		})
		if !errors.Is(err, net.ErrClosed) || told != 4 || came != 1 {
			t.Errorf("ended with %v after %d connections, and has told of %d failures", err, came, told)
		}
	})
}

// While it lasts, Close ends the service all the same.
func TestCloseEndsScarcity(t *testing.T) {
	r := &Relay{}
	tried, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		ended <- r.Serve(script{accept: func() (net.Conn, error) {
			select {
			case tried <- struct{}{}:
			default:
			}
			return nil, failed(syscall.EMFILE)
		}})
	}()
	<-tried
	r.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it tries for ever")
	}
}
