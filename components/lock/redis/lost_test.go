//go:build servers

package redis_test

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/redistest"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/redis"
)

// line is a proxy between the driver and its server.
type line struct {
	net.Listener
	to    string
	lose  atomic.Bool // the next request for the lock "l": its connection ends, and the server does not hear of it
	asked chan struct{}
	work  sync.WaitGroup
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{Listener: at, to: to, asked: make(chan struct{}, 100)}
	l.work.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			l.work.Go(func() { l.serve(from) })
		}
	})
	return l
}

func (l *line) serve(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", l.to)
	if err != nil {
		return
	}
	defer to.Close()
	asked := atomic.Bool{}
	l.work.Go(func() {
		defer from.Close()
		for part := make([]byte, 1<<16); ; {
			n, err := to.Read(part)
			if err != nil {
				return
			}
			if _, err := from.Write(part[:n]); err != nil {
				return
			}
			if asked.Swap(false) {
				l.asked <- struct{}{}
			}
		}
	})
	for part := make([]byte, 1<<16); ; {
		n, err := from.Read(part)
		if err != nil {
			return
		}
		if bytes.Contains(part[:n], []byte("/l\r\n")) {
			if l.lose.Swap(false) {
				return
			}
			asked.Store(true)
		}
		if _, err := to.Write(part[:n]); err != nil {
			return
		}
	}
}

// TestACallThatWasLostTakesNothingFromItsOwner: the owner has the lock, and asks for it once more with a request that the server does
// not hear of. What that call may have got is given back, and what the one before has got is not.
func TestACallThatWasLostTakesNothingFromItsOwner(t *testing.T) {
	o, env := redistest.Options(t, "redis"), redistest.Env(t)
	through := newLine(t, o.Addresses[0])
	defer through.work.Wait()
	defer through.Close()
	o.Addresses = []string{through.Addr().String()}
	d, err := redis.Open(t.Context(), env, redis.Options{Redis: o})
	if err != nil {
		t.Fatal(err)
	}
	defer d.(components.Closer).Close(t.Context())
	held, err := d.TryLock(t.Context(), "l", "owner", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	<-through.asked
	through.lose.Store(true)
	if _, err := d.TryLock(t.Context(), "l", "owner", time.Hour); err == nil {
		t.Fatal("nothing was lost")
	}
	<-through.asked // that of giving back
	if _, err := d.TryLock(t.Context(), "l", "another", lock.MinLease); err == nil {
		t.Error("another owner gets the lock")
	}
	if _, err := d.Renew(t.Context(), "l", held.Token, time.Hour); err != nil {
		t.Errorf("who had it is told: %v", err)
	}
}
