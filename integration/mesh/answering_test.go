package mesh

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// answering is an application of one protocol that does what the method it is asked for is called, and counts: "fine" is answered; "busy" by the
// status of the protocol that says that it could not be done; "hang" is answered by nothing; at "drop" the connection is closed,
// and at "reset" broken off, with what was under way; "held" is answered when the test lets go of it.
type answering struct {
	port   int
	broken atomic.Bool // each call is one of "drop"
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	count  map[string]int
	ended  chan struct{}
	letGo  chan struct{} // closed when what is held may be answered
	stop   func()        // ends it before the test does
}

// app starts an application that ends with the test.
func (w wire) app(t *testing.T) *answering {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAnswering(ln)
	var tasks sync.WaitGroup
	tasks.Go(func() { w.serve(a, kept{ln, a}) })
	a.stop = sync.OnceFunc(func() {
		close(a.ended)
		ln.Close()
		a.drop(false)
		tasks.Wait()
	})
	t.Cleanup(a.stop)
	return a
}

func newAnswering(ln net.Listener) *answering {
	return &answering{port: ln.Addr().(*net.TCPAddr).Port, conns: map[net.Conn]struct{}{}, count: map[string]int{}, ended: make(chan struct{}), letGo: make(chan struct{})}
}

// kept are connections that can be broken off.
type kept struct {
	net.Listener
	a *answering
}

func (k kept) Accept() (net.Conn, error) {
	nc, err := k.Listener.Accept()
	if err == nil {
		k.a.mu.Lock()
		k.a.conns[nc] = struct{}{}
		k.a.mu.Unlock()
	}
	return nc, err
}

// drop closes all connections, or has the kernel send a reset on each.
func (a *answering) drop(reset bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for nc := range a.conns {
		if reset {
			nc.(*net.TCPConn).SetLinger(0)
		}
		nc.Close()
	}
	clear(a.conns)
}

// asked counts a call, and waits or breaks off where the method says so. An answer follows if it is true.
func (a *answering) asked(method string, gone <-chan struct{}) bool {
	if a.broken.Load() {
		method = "drop"
	}
	a.mu.Lock()
	a.count[method]++
	a.mu.Unlock()
	switch method {
	case "hang":
		select {
		case <-gone:
		case <-a.ended:
		}
		return false
	case "held":
		select {
		case <-gone:
			return false
		case <-a.ended:
			return false
		case <-a.letGo:
		}
	case "drop", "reset":
		a.drop(method == "reset")
		return false
	}
	return true
}

// times is how many calls of a method have arrived.
func (a *answering) times(method string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count[method]
}
