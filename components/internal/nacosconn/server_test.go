//go:build servers

package nacosconn_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn/nacostest"
)

const back = 5 * time.Second // within which a client is there again, as the issue wants it

// counter counts connections.
type counter struct{ connected, live atomic.Int64 }

func (c *counter) Connected(ctx context.Context) {
	c.connected.Add(1)
	c.live.Add(1)
	<-ctx.Done()
	c.live.Add(-1)
}

func (*counter) Pushed(string, []byte) {}

func open(t *testing.T, o nacosconn.Options, h nacosconn.Handler) *nacosconn.Client {
	t.Helper()
	c, err := nacosconn.Open(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)), nacosconn.Naming, o, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func wantUnreachable(t *testing.T, o nacosconn.Options, err error) {
	t.Helper()
	var d *components.Detail
	if !errors.Is(err, components.ErrUnavailable) || !errors.As(err, &d) || d.Reason != backend.ReasonUnreachable || !strings.Contains(err.Error(), o.Addresses[0]) {
		t.Errorf("%v; want ErrUnavailable, reason %s, that names %s", err, backend.ReasonUnreachable, o.Addresses[0])
	}
}

func TestConnectsAgain(t *testing.T) {
	w, o := nacostest.NewWire(t)
	o.Heartbeat, o.Timeout = 300*time.Millisecond, 500*time.Millisecond
	h := &counter{}
	c := open(t, o, h)
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, mode := range []wiretest.Mode{wiretest.Cut, wiretest.Stalled, wiretest.Deaf} {
		w.Set(mode)
		componenttest.Eventually(t, back, func() error {
			if h.live.Load() > 0 {
				return errors.New("that the connection is lost is not noticed")
			}
			return nil
		})
		began := time.Now()
		wantUnreachable(t, o, c.Check(t.Context()))
		if d := time.Since(began); d > time.Second {
			t.Errorf("mode %d: without a connection a call takes %s", mode, d)
		}
		w.Set(wiretest.Whole)
		componenttest.Eventually(t, back, func() error { return c.Check(t.Context()) })
		if n := h.connected.Load(); n != int64(i)+2 {
			t.Errorf("mode %d: connected %d times, want %d", mode, n, i+2)
		}
	}
}

// TestCallsKeepTheirDeadline has a server that is frozen, and not yet known to be.
func TestCallsKeepTheirDeadline(t *testing.T) {
	w, o := nacostest.NewWire(t)
	c := open(t, o, &counter{})
	w.Set(wiretest.Stalled)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := c.Check(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
		t.Errorf("after %s: %v, want the context's error at once", time.Since(began), err)
	}
}

// TestOpenDoesNotWaitForAServer that is frozen, or that is not there.
func TestOpenDoesNotWaitForAServer(t *testing.T) {
	for _, mode := range []wiretest.Mode{wiretest.Cut, wiretest.Stalled} {
		w, o := nacostest.NewWire(t)
		o.Addresses = slices.Repeat(o.Addresses, 5) // each may take its time
		w.Set(mode)
		began := time.Now()
		c, err := nacosconn.Open(t.Context(), slog.New(slog.DiscardHandler), nacosconn.Naming, o, &counter{})
		wantUnreachable(t, o, err)
		if d := time.Since(began); d > back {
			t.Errorf("mode %d: it takes %s", mode, d)
		}
		w.Set(wiretest.Whole)
		componenttest.Eventually(t, 2*back, func() error { return c.Check(t.Context()) }) // the wire keeps what it was sent while it stood
		w.Set(mode)
		began = time.Now()
		c.Close()
		if d := time.Since(began); d > time.Second {
			t.Errorf("mode %d: it closes in %s", mode, d)
		}
	}
}

// TestTheFirstCallIsServed: the server does not say when it knows a connection.
func TestTheFirstCallIsServed(t *testing.T) {
	for range 20 {
		c := open(t, nacostest.Options(t), &counter{})
		if err := c.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoPortIsOpened: anybody could plant instances through one.
func TestNoPortIsOpened(t *testing.T) {
	c := open(t, nacostest.Options(t), &counter{})
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	table := ""
	for _, name := range []string{"udp", "udp6"} {
		text, err := os.ReadFile("/proc/self/net/" + name)
		if err != nil {
			t.Fatal(err)
		}
		table += string(text)
	}
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, "socket:[") && strings.Contains(table, " "+to[8:len(to)-1]+" ") {
			t.Errorf("%s is a UDP socket", f)
		}
	}
}
