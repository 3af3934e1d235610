package redisconn

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestAServerThatIsAwayIsLeftAlone for longer and longer, up to half a second; who calls has its error at once.
func TestAServerThatIsAwayIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away, tries := errors.New("away"), 0
		d := newDialer(nil, time.Second)
		d.dial = func(context.Context, string, string) (net.Conn, error) {
			tries++
			return nil, away
		}
		for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
			if _, err := d.Dial(t.Context(), "tcp", "a:1"); err != away {
				t.Fatal(err)
			}
		}
		if tries < 20 || tries > 50 {
			t.Errorf("%d tries in 10 s, want some 30", tries)
		}
		if _, err := d.Dial(t.Context(), "tcp", "b:1"); err != away {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		defer far.Close()
		d.dial = func(context.Context, string, string) (net.Conn, error) { return near, nil }
		time.Sleep(500 * time.Millisecond)
		if conn, err := d.Dial(t.Context(), "tcp", "a:1"); err != nil || conn.Close() != nil || len(d.all) != 1 {
			t.Errorf("when it is back: %v; %d are left alone", err, len(d.all))
		}
	})
}
