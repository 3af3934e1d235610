package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/internal/upkeep"
)

// A connection of TCP says nothing of a service. The application chooses it by the port that it connects to, and the sidecar tells the
// one at the other end, by a line that begins the connection: SERVICE, who calls, and how many sidecars it has passed:
//
//	\x00tcp/1 NAMESPACE/NAME NAMESPACE/APP HOPS\n
//
// Nothing else is sent until that one has said whether its application is connected: tcpTaken, or tcpRefused with a reason, a space and a
// text, and the end. What follows is the application's own.
const (
	tcpBegin   = "\x00tcp/1 "
	tcpTaken   = '+'
	tcpRefused = '-'

	tcpMost    = 50_000           // connections at once
	tcpLine    = 1 << 10          // of either
	tcpConnect = 5 * time.Second  // for an attempt, unless the policies say otherwise
	tcpApp     = 3 * time.Second  // for the application to take a connection
	tcpKnown   = 10 * time.Second // for the instances of a service to become known
)

// TCP matches connections that a sidecar has begun so.
var TCP = Prefix(tcpBegin)

// readLine reads to the end of a line and no further: what comes after it is not for us.
func readLine(r io.Reader) (string, error) {
	var line []byte
	var one [1]byte
	for len(line) < tcpLine {
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return "", err
		}
		if one[0] == '\n' {
			return string(line), nil
		}
		line = append(line, one[0])
	}
	return "", errors.New("the line has no end")
}

// tunnels are the connections that are open. The zero value has none.
type tunnels struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ended bool
	work  sync.WaitGroup
	ctx   context.Context // of those that are being made: ends when Shutdown waits no longer
	cut   context.CancelFunc
}

// begin has a connection ended by Shutdown; false: that was called, or there are too many.
func (t *tunnels) begin(nc net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || len(t.conns) >= tcpMost {
		return false
	}
	if t.conns == nil {
		t.conns = map[net.Conn]struct{}{}
		t.ctx, t.cut = context.WithCancel(context.Background())
	}
	t.conns[nc] = struct{}{}
	t.work.Add(1)
	return true
}

func (t *tunnels) end(nc net.Conn) {
	nc.Close()
	t.mu.Lock()
	delete(t.conns, nc)
	t.mu.Unlock()
	t.work.Done()
}

// Open is how many there are.
func (t *tunnels) Open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// Shutdown takes no more, and waits for those that are open, as long as ctx lets it; then it ends them.
func (t *tunnels) Shutdown(ctx context.Context) error {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	done := make(chan struct{})
	go func() { t.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	for nc := range t.conns {
		upkeep.Reset(nc)
	}
	if t.cut != nil {
		t.cut()
	}
	t.mu.Unlock()
	<-done
	return ctx.Err()
}

// join passes bytes both ways until both sides have said that they are done, or one has broken off: then the other is, too.
func join(client, upstream net.Conn) (sent, received int64, err error) {
	type way struct {
		n   int64
		err error
	}
	back := make(chan way, 1)
	go func() {
		n, err := pass(client, upstream)
		back <- way{n, err}
	}()
	sent, err = pass(upstream, client)
	b := <-back
	if err == nil {
		err = b.err
	}
	client.Close()
	upstream.Close()
	return sent, b.n, err
}

func pass(to, from net.Conn) (int64, error) {
	n, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil {
		upkeep.Reset(to)
		upkeep.Reset(from)
	}
	return n, err
}

// reasonOf is the reason of an error, and how it is called in the log.
func reasonOf(err error) (reason components.Reason, text string) {
	var d *components.Detail
	if errors.As(err, &d) {
		return d.Reason, err.Error()
	}
	return "UNAVAILABLE", err.Error()
}
