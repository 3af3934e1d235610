package dtm_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// balancer is one address that leads to several: each connection to the next one that takes it.
type balancer struct {
	net.Listener
	work sync.WaitGroup

	mu    sync.Mutex
	to    []string
	conns []net.Conn
	ended bool
}

func newBalancer(t testing.TB) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{Listener: l}
	b.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.work.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() {
		b.Close()
		b.mu.Lock()
		b.ended = true
		for _, c := range b.conns {
			c.Close()
		}
		b.mu.Unlock()
		b.work.Wait()
	})
	return b
}

func (b *balancer) address() string { return b.Addr().String() }

func (b *balancer) add(to string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to = append(b.to, to)
}

// next is the address whose turn it is; nil: each had one.
func (b *balancer) next() net.Conn {
	b.mu.Lock()
	all := append([]string(nil), b.to...)
	if len(b.to) > 1 {
		b.to = append(b.to[1:], b.to[0])
	}
	b.mu.Unlock()
	for _, to := range all {
		if c, err := net.Dial("tcp", to); err == nil {
			return c
		}
	}
	return nil
}

func (b *balancer) keep(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, c)
	if b.ended {
		c.Close()
	}
}

func (b *balancer) serve(in net.Conn) {
	defer in.Close()
	out := b.next()
	if out == nil {
		return
	}
	defer out.Close()
	b.keep(in)
	b.keep(out)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(in, out)
		in.Close()
	})
	_, _ = io.Copy(out, in)
	out.Close()
	back.Wait()
}

func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
