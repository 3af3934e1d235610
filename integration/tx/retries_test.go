package tx_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// stands is how a transaction is, and its one branch.
func stands(t *testing.T, tx *client.Transactions, gid string) (client.TxStatus, client.TxBranch) {
	t.Helper()
	s, err := tx.Get(within(t, patience), gid)
	if err != nil || len(s.Branches) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	return s, s.Branches[0]
}

func becomes(t *testing.T, tx *client.Transactions, gid string, want client.TxState) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		s, err := tx.Get(within(t, patience), gid)
		if err == nil && s.State != want {
			err = fmt.Errorf("%s is %+v, want %s", gid, s, want)
		}
		return err
	})
}

// TestRetries: a participant sees the pauses of the policy, each at least as long as it should be, and as many attempts as there are said to be.
// What is asked by `tx retry` is tried at once, and counted anew.
func TestRetries(t *testing.T) {
	dir := t.TempDir()
	app := startBranchApp(t, dir)
	_, tx := startBank(t, dir, "")
	goOn := make(chan struct{})
	const doubling, before = "doubling", 5
	app.answers(func(c branchCall, n int) error {
		switch {
		case !strings.Contains(c.name, doubling):
			if n < 6 {
				return errAway
			}
		case n < before, n == before+1: // the last of them when it was retried
			return errAway
		default:
			<-goOn // it is under way, and changes nothing meanwhile
		}
		return nil
	})
	step := func(gid string, p client.TxPolicy) {
		if _, err := tx.Saga(t.Context()).GID(gid).Policy(p).Step("one", client.To("stock", "do", nil)).Start(); err != nil {
			t.Fatal(err)
		}
	}
	step(doubling, client.TxPolicy{FirstPause: 100 * time.Millisecond, LongestPause: time.Hour})
	step("capped", client.TxPolicy{FirstPause: 50 * time.Millisecond, LongestPause: 100 * time.Millisecond})
	becomes(t, tx, "capped", client.TxCommitted)
	paused(t, app.times("capped", "one", "action"), 50, 100, 100, 100, 100, 100)

	paused(t, app.until(before+1, doubling, "one", "action"), 100, 200, 400, 800, 1600)
	if s, b := stands(t, tx, doubling); s.State != "RUNNING" || b.Attempts != before || b.Done || !strings.Contains(b.Last, errAway.Error()) {
		t.Errorf("%+v", s)
	}
	if _, err := tx.Retry(within(t, patience), doubling); err != nil { // its call under way is given up
		t.Fatal(err)
	}
	app.until(before+3, doubling, "one", "action")
	if _, b := stands(t, tx, doubling); b.Attempts != 1 {
		t.Errorf("after a retry, and one attempt more: %+v", b)
	}
	close(goOn)
	becomes(t, tx, doubling, client.TxCommitted)
}

// paused compares what was between calls with what should have been at least, in milliseconds.
func paused(t *testing.T, calls []time.Time, pauses ...int) {
	t.Helper()
	if len(calls) != len(pauses)+1 {
		t.Fatalf("%d calls, want %d", len(calls), len(pauses)+1)
	}
	for i, ms := range pauses {
		const grain = 2 * time.Millisecond // of the clocks
		if got := calls[i+1].Sub(calls[i]); got < time.Duration(ms)*time.Millisecond-grain {
			t.Errorf("%s after attempt %d, want at least %d ms", got, i+1, ms)
		}
	}
}

// TestStuckCompensation stays visible, goes on, and raises an alarm, until it succeeds.
func TestStuckCompensation(t *testing.T) {
	dir := t.TempDir()
	app := startBranchApp(t, dir)
	bank, tx := startBank(t, dir, "")
	app.answers(func(branchCall, int) error { return errAway })
	p := client.TxPolicy{FirstPause: 5 * time.Millisecond, LongestPause: 10 * time.Millisecond}
	if _, err := tx.Saga(t.Context()).GID("stuck").Policy(p).Step("one", client.To("stock", "do", nil), client.To("stock", "undo", nil)).Start(); err != nil {
		t.Fatal(err)
	}
	app.until(1, "stuck", "one", "action")
	if _, err := tx.Abort(within(t, patience), "stuck"); err != nil {
		t.Fatal(err)
	}
	app.until(12, "stuck", "one", "compensation")
	gauge(t, bank, 1)
	all := 0
	for s, err := range tx.List(within(t, patience), 0, "ABORTING") {
		if all++; err != nil || s.GID != "stuck" {
			t.Errorf("%+v, %v", s, err)
		}
	}
	if s, b := stands(t, tx, "stuck"); all != 1 || s.State != "ABORTING" || b.Op != "compensation" || b.Attempts < 10 || !strings.Contains(b.Last, errAway.Error()) {
		t.Errorf("%d are listed; %+v", all, s)
	}
	app.until(len(app.times("stuck", "one", "compensation"))+3, "stuck", "one", "compensation")
	app.answers(nil)
	becomes(t, tx, "stuck", client.TxAborted)
	gauge(t, bank, 0)
}

// gauge waits until so many transactions are said to be stuck.
func gauge(t *testing.T, s *harness.Sidecar, want int) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		res, err := http.Get("http://" + s.Admin + "/metrics")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err == nil && !strings.Contains(string(text), fmt.Sprintf(`outrigger_transactions_stuck{capability="transaction",component="default",driver="local"} %d`, want)) {
			err = fmt.Errorf("outrigger_transactions_stuck is not %d", want)
		}
		return err
	})
}

// TestFrozenCoordinator: one that is stopped for longer than its lease, and woken, changes no state, and the call that it had made has no effect.
func TestFrozenCoordinator(t *testing.T) {
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
	frozen.Signal(syscall.SIGSTOP)
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
