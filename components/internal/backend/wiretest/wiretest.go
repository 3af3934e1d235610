// Package wiretest is a wire between a driver and a real server that tests cut, and on which they lose what is sent.
package wiretest

import (
	"net"
	"sync"
	"testing"
)

// Mode is what a wire does.
type Mode int

// What a wire can do. Whole carries all; Cut ends connections and takes no new ones; Deaf carries what is sent to the server, and loses
// the answers; Mute loses what is sent, and carries answers; Late has answers wait; Stalled carries nothing, and connections stay.
const (
	Whole Mode = iota
	Cut
	Deaf
	Mute
	Late
	Stalled
)

// Wire leads to a server. Safe for concurrent use.
type Wire struct {
	to       string
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	mode    Mode
	ended   bool
	lost    int
	open    map[net.Conn]bool
}

// New is a wire to a server, whole, until the test ends.
func New(t testing.TB, to string) *Wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{to: to, listener: listener, open: map[net.Conn]bool{}}
	w.changed = sync.NewCond(&w.mu)
	w.running.Go(w.accept)
	t.Cleanup(func() {
		listener.Close()
		w.mu.Lock()
		w.ended = true
		w.mu.Unlock()
		w.Set(Cut)
		w.running.Wait()
	})
	return w
}

// Addr is where it begins, HOST:PORT.
func (w *Wire) Addr() string { return w.listener.Addr().String() }

// Set changes what it does. Connections on which something was lost end.
func (w *Wire) Set(m Mode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m == Cut || w.mode == Deaf || w.mode == Mute {
		for c := range w.open {
			c.Close()
		}
		clear(w.open)
	}
	w.mode = m
	w.changed.Broadcast()
}

// Lost is how many pieces were lost while it was Deaf, or Mute.
func (w *Wire) Lost() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

func (w *Wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to)
		if err != nil || !w.add(near, far) {
			near.Close()
			if far != nil {
				far.Close()
			}
			continue
		}
		w.running.Go(func() { w.carry(near, far, false) })
		w.running.Go(func() { w.carry(far, near, true) })
	}
}

func (w *Wire) add(both ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mode == Cut || w.ended {
		return false
	}
	for _, c := range both {
		w.open[c] = true
	}
	return true
}

func (w *Wire) carry(from, to net.Conn, answers bool) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && w.carries(answers) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// carries waits while the wire is stalled, or late, and tells whether what was read goes on.
func (w *Wire) carries(answers bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.mode == Stalled || w.mode == Late && answers {
		w.changed.Wait()
	}
	if w.mode == Deaf && answers || w.mode == Mute && !answers {
		w.lost++
		return false
	}
	return w.mode != Cut
}
