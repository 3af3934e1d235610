package redisconn

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// dialer connects, and leaves a server that cannot be reached alone for a while, which grows: who calls meanwhile has the last error at
// once. Safe for concurrent use.
type dialer struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu  sync.Mutex
	all map[string]*target
}

// target is a server that could not be reached the last time.
type target struct {
	backoff backend.Backoff
	until   time.Time
	failure error
}

func newDialer(config *tls.Config, limit time.Duration) *dialer {
	plain := &net.Dialer{Timeout: limit}
	d := &dialer{dial: plain.DialContext, all: map[string]*target{}}
	if config != nil {
		d.dial = (&tls.Dialer{NetDialer: plain, Config: config}).DialContext
	}
	return d
}

// Dial is for the library. A failure because ctx has ended says nothing of the server.
func (d *dialer) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := d.last(addr); err != nil {
		return nil, err
	}
	conn, err := d.dial(ctx, network, addr)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch t := d.all[addr]; {
	case err == nil:
		delete(d.all, addr)
	case ctx.Err() != nil && context.Cause(ctx) == context.Canceled:
	default:
		if t == nil {
			t = &target{backoff: backend.Backoff{First: 20 * time.Millisecond, Most: 500 * time.Millisecond}}
			d.all[addr] = t
		}
		t.until, t.failure = time.Now().Add(t.backoff.Next()), err
	}
	return conn, err
}

// last is why a server is left alone now.
func (d *dialer) last(addr string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.all[addr]; t != nil && time.Now().Before(t.until) {
		return t.failure
	}
	return nil
}
