package tx_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// relay stands between the store's owner and the sidecars that are started after it. What the owner says to the first of them can be held, as a slow line would.
type relay struct {
	owner string // the socket

	mu    sync.Mutex
	first net.Conn
	held  chan struct{} // not nil: until it is closed
}

func newRelay(t *testing.T, dir string) *relay {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "socket"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the store's sockets are %q, %v", found, err)
	}
	r := &relay{owner: found[0] + ".owner"}
	if err := os.Rename(found[0], r.owner); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", found[0])
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); work.Wait() }) // by then the sidecars have ended, and their connections
	return r
}

func (r *relay) serve(c net.Conn) {
	defer c.Close()
	owner, err := net.Dial("unix", r.owner)
	if err != nil {
		return
	}
	defer owner.Close()
	r.mu.Lock()
	if r.first == nil {
		r.first = c
	}
	first := r.first == c
	r.mu.Unlock()
	go func() { _, _ = io.Copy(owner, c); owner.Close() }()
	said := make([]byte, 1<<16)
	for {
		n, err := owner.Read(said)
		r.mu.Lock()
		held := r.held
		r.mu.Unlock()
		if first && held != nil {
			<-held
		}
		if _, e := c.Write(said[:n]); err != nil || e != nil {
			return
		}
	}
}

func (r *relay) hold() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make(chan struct{})
	r.held = held
	return sync.OnceFunc(func() { close(held) })
}

// TestFrozenCoordinator: one that is stopped when it is about to write that a saga is committed, for longer than its lease, changes no state when it
// wakes, also if it has not heard by then that its lease is over. It had written of the saga more often than who drives it now, so that the count of what it
// writes does not keep it from that.
func TestFrozenCoordinator(t *testing.T) {
	const gid, before = "g", 8
	dir, points := t.TempDir(), t.TempDir()
	app := startBranchApp(t, dir) // whose sidecar owns the store: it is not to freeze
	line := newRelay(t, dir)
	frozen, tx := startBankOf(t, harness.Options{DataDir: dir, Config: txConfig, Binary: harness.Failpoints(t), Env: []string{"OUTRIGGER_FAILPOINTS=" + points}})
	const point = "local.decides.COMMITTED"
	for _, folder := range []string{"armed", "hit", "freeze", "frozen"} {
		if err := os.Mkdir(filepath.Join(points, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(points, "freeze", point), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	healed := make(chan struct{})
	heal := sync.OnceFunc(func() { close(healed) })
	defer heal()
	app.answers(func(c branchCall, n int) error {
		switch {
		case c.Op == "compensation":
			<-healed
			return app.add(c, c.GID, "-")
		case n == before:
			return app.add(c, c.GID, "+")
		}
		return errAway
	})
	p := client.TxPolicy{FirstPause: 20 * time.Millisecond, LongestPause: 20 * time.Millisecond}
	start := func(gid string) error {
		_, err := tx.Saga(within(t, patience)).GID(gid).Policy(p).Step("one", client.To("stock", "do", nil), client.To("stock", "undo", nil)).Start()
		return err
	}
	if err := start(gid); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, patience, func() error {
		_, err := os.Stat(filepath.Join(points, "frozen", point))
		return err
	})
	frozen.Freeze() // it has stopped itself
	release := line.hold()
	defer release()

	_, others := startBank(t, dir, "api: {socket: none}\n")
	app.until(before+2, gid, "one", "action") // the other one drives it
	if _, err := others.Abort(within(t, patience), gid); err != nil {
		t.Fatal(err)
	}
	app.until(1, gid, "one", "compensation")
	frozen.Signal(syscall.SIGCONT)
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { _ = start("later") }) // it is not answered yet
	harness.Eventually(t, patience, func() error { _, err := others.Get(within(t, patience), "later"); return err })
	s, b := stands(t, others, gid)
	if s.State != "ABORTING" || b.Done {
		t.Errorf("after the frozen one woke: %+v", s)
	}
	release()
	heal()
	if s.State == "ABORTING" {
		becomes(t, others, gid, client.TxAborted)
	}
	if got := app.effects("default/bank/" + gid); got != "+-" {
		t.Errorf("its effects are %q", got)
	}
}

// TestFrozenCall: the call of a coordinator that is stopped for longer than its lease, and woken, has no effect, and its outcome changes nothing.
func TestFrozenCall(t *testing.T) {
	const gids = 4 // what it does first when it wakes is a matter of luck
	dir := t.TempDir()
	app := startBranchApp(t, dir) // whose sidecar owns the store: it is not to freeze
	frozen, tx := startBank(t, dir, "")
	_, others := startBank(t, dir, "api: {socket: none}\n")

	wake, healed := make(chan struct{}), make(chan struct{})
	app.answers(func(c branchCall, before int) error {
		switch {
		case c.Op == "action" && before == 0:
			<-wake // the call of the one that is frozen
			return app.add(c, c.GID, "+")
		case c.Op == "action":
			return errAway
		}
		if err := app.add(c, c.GID, "-"); err != nil {
			return err
		}
		select {
		case <-healed:
			return nil
		default:
			return errAway
		}
	})
	each := func(do func(gid string)) {
		for i := range gids {
			do(fmt.Sprint("g", i))
		}
	}
	p := client.TxPolicy{FirstPause: 50 * time.Millisecond, LongestPause: 50 * time.Millisecond}
	each(func(gid string) {
		if _, err := tx.Saga(t.Context()).GID(gid).Policy(p).Step("one", client.To("stock", "do", nil), client.To("stock", "undo", nil)).Start(); err != nil {
			t.Fatal(err)
		}
		app.until(1, gid, "one", "action")
	})
	frozen.Freeze()
	each(func(gid string) { // the other one drives it
		app.until(2, gid, "one", "action")
		if _, err := others.Abort(within(t, patience), gid); err != nil {
			t.Fatal(err)
		}
		app.until(2, gid, "one", "compensation") // the first was served
	})
	close(wake) // what it will hear first is that its call was OK
	frozen.Signal(syscall.SIGCONT)
	if _, err := tx.Saga(within(t, patience)).Policy(p).Step("one", client.To("stock", "do", nil)).Start(); err != nil { // it is awake
		t.Fatal(err)
	}
	each(func(gid string) {
		app.until(len(app.times(gid, "one", "compensation"))+3, gid, "one", "compensation")
		if s, b := stands(t, others, gid); s.State != "ABORTING" || b.Done {
			t.Errorf("after the frozen one woke: %+v", s)
		}
	})
	close(healed)
	each(func(gid string) {
		becomes(t, others, gid, client.TxAborted)
		if got := app.effects("default/bank/" + gid); got != "" {
			t.Errorf("%s: what was never done, or taken back, is there: %q", gid, got)
		}
	})
}
