package runtime

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// shell starts an application that is up when it has made a file.
func shell(t *testing.T, script string) *child {
	t.Helper()
	up := filepath.Join(t.TempDir(), "up")
	c, err := startChild([]string{"sh", "-c", script}, []string{"UP=" + up})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.signal(9); <-c.ended })
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(up); err == nil {
			return c
		}
		if time.Now().After(late) {
			t.Fatal("the application did not start")
		}
	}
}

// An application gets all the time there is, however short: it is not killed before.
func TestStopGivesTheApplicationItsTime(t *testing.T) {
	c := shell(t, `trap 'sleep 0.2; exit 7' TERM; : > "$UP"; while :; do sleep 0.01; done`)
	ctx, cancel := context.WithCancel(context.Background()) // ends after the application, not before
	defer cancel()
	ctx = deadline{ctx, time.Now().Add(time.Second)}
	if err := c.stop(ctx, syscall.SIGTERM); err != nil || c.exit.Code != 7 {
		t.Errorf("stop: %v and code %d, want the application's own end with code 7", err, c.exit.Code)
	}
}

// deadline is a context that says when it will end, and does not: on a slow machine it would end too soon.
type deadline struct {
	context.Context
	at time.Time
}

func (d deadline) Deadline() (time.Time, bool) { return d.at, true }

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	c := shell(t, `trap '' TERM; : > "$UP"; while :; do sleep 0.01; done`)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := c.stop(ctx, syscall.SIGTERM); err == nil || c.exit.Code != 128+9 {
		t.Errorf("stop: %v and code %d, want the end by SIGKILL", err, c.exit.Code)
	}
}
