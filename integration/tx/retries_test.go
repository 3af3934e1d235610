package tx_test

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
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
			if n < 10 {
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
	capped := app.times("capped", "one", "action")
	paused(t, capped, 50, 100, 100, 100, 100, 100, 100, 100, 100, 100)
	if took := capped[len(capped)-1].Sub(capped[0]); took > 25*time.Second { // where they double without bound: 51 s
		t.Errorf("%d capped pauses take %s", len(capped)-1, took)
	}

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

// TestChangesAreLogged: one line for the beginning and each change of state, with the gid, and nothing of what branches are called with or answer.
func TestChangesAreLogged(t *testing.T) {
	const canary = "canary-7f3a91"
	dir := t.TempDir()
	app := startBranchApp(t, dir)
	bank, tx := startBank(t, dir, "telemetry: {log: {level: debug}}\n")
	app.answers(func(c branchCall, n int) error {
		if strings.Contains(c.name, "away") && n == 0 {
			return errAway
		}
		return nil
	})
	for _, gid := range []string{"done", "away"} {
		p := client.TxPolicy{FirstPause: 5 * time.Millisecond}
		if _, err := tx.Saga(t.Context()).GID(gid).Policy(p).Step("one", client.To("stock", "do", []byte(canary))).Run(); err != nil {
			t.Fatal(err)
		}
	}
	app.answers(func(branchCall, int) error { return errAway })
	if _, err := tx.Saga(t.Context()).GID("undone").Step("one", client.To("stock", "do", []byte(canary)), client.To("stock", "undo", []byte(canary))).Start(); err != nil {
		t.Fatal(err)
	}
	app.until(1, "undone", "one", "action")
	if _, err := tx.Abort(within(t, patience), "undone"); err != nil {
		t.Fatal(err)
	}
	app.answers(nil)
	becomes(t, tx, "undone", client.TxAborted)
	bank.Stop() // so that all has been written
	for gid, want := range map[string][]string{"done": {"COMMITTED", "RUNNING"}, "away": {"COMMITTED", "RUNNING"}, "undone": {"ABORTED", "ABORTING", "RUNNING"}} {
		var got []string
		for line := range strings.Lines(bank.Output()) {
			if about := regexp.MustCompile(`gid=\S*\b` + gid + `\b.* state=(\w+)`).FindStringSubmatch(line); about != nil {
				got = append(got, about[1])
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s is logged as %v, want %v", gid, got, want)
		}
	}
	for _, text := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary))} {
		if strings.Contains(bank.Output(), text) || strings.Contains(app.sidecar.Output(), text) {
			t.Errorf("%q is logged", text)
		}
	}
	if t.Failed() {
		t.Log(bank.Output())
	}
}

// gauge waits until so many transactions are said to be stuck.
func gauge(t *testing.T, s *harness.Sidecar, want int) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		if !strings.Contains(s.Page("/metrics"), fmt.Sprintf(`outrigger_transactions_stuck{capability="transaction",component="default",driver="local"} %d`, want)) {
			return fmt.Errorf("outrigger_transactions_stuck is not %d", want)
		}
		return nil
	})
}
