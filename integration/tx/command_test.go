package tx_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// TestCommand: an operator sees by `outrigger tx` and in the metrics what is open and why, and can have it retried, aborted and given up.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	app := startBranchApp(t, dir)
	bank, tx := startBank(t, dir, "")
	app.answers(func(c branchCall, _ int) error {
		if strings.Contains(c.name, "fine") {
			return nil
		}
		return errAway
	})
	if _, err := tx.Saga(t.Context()).GID("fine").Step("one", client.To("stock", "do", nil)).Run(); err != nil {
		t.Fatal(err)
	}
	p := client.TxPolicy{FirstPause: time.Hour, LongestPause: time.Hour}
	for _, gid := range []string{"open", "left"} {
		if _, err := tx.Saga(t.Context()).GID(gid).Policy(p).Step("one", client.To("stock", "do", nil), client.To("stock", "undo", nil)).Start(); err != nil {
			t.Fatal(err)
		}
		app.until(1, gid, "one", "action")
	}
	harness.Eventually(t, patience, func() error { // the outcome of the call was noted
		for _, gid := range []string{"open", "left"} {
			if _, b := stands(t, tx, gid); b.Attempts != 1 || b.Pause == 0 {
				return fmt.Errorf("%s: %+v", gid, b)
			}
		}
		return nil
	})
	run := func(code int, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(within(t, patience), harness.Binary(t), append(append([]string{"tx"}, args...), "-addr", bank.GRPC)...)
		text, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != code {
			t.Errorf("outrigger tx %s: %v, want exit code %d\n%s", strings.Join(args, " "), err, code, text)
		}
		return string(text)
	}
	says := func(what, text string, patterns ...string) {
		t.Helper()
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(text) {
				t.Errorf("%s does not say %s:\n%s", what, p, text)
			}
		}
	}
	metrics := func(patterns ...string) {
		t.Helper()
		says("/metrics", bank.Page("/metrics"), patterns...)
	}

	says("list", run(0, "list"), `(?m)^fine +saga +COMMITTED `, `(?m)^open +saga +RUNNING `, `(?m)^left +saga +RUNNING `)
	if text := run(0, "list", "-state", "running"); strings.Contains(text, "fine") || !strings.Contains(text, "open") {
		t.Errorf("those that are running are\n%s", text)
	}
	if text := run(0, "list", "-older-than", "1h"); strings.Contains(text, "open") {
		t.Errorf("those that are older than an hour are\n%s", text)
	}
	says("an unknown state", run(1, "list", "-state", "RUNING"), "INVALID_ARGUMENT|InvalidArgument", `unknown state "RUNING" \(have PREPARED, RUNNING, `)
	var all []map[string]any
	if err := json.Unmarshal([]byte(run(0, "list", "-o", "json")), &all); err != nil || len(all) != 3 {
		t.Errorf("%v, %v", all, err)
	}
	says("show", run(0, "show", "open"), `^open: saga RUNNING, began `, `(?m)^one +action +open +attempts 1, the next in .*`+errAway.Error())
	metrics(`(?m)^outrigger_transactions\{.*state="RUNNING"\} 2$`, `(?m)^outrigger_transactions\{.*state="COMMITTED"\} 1$`, `(?m)^outrigger_transaction_oldest_seconds\{.*\} 0*[1-9.]`)

	run(0, "retry", "open")
	app.until(2, "open", "one", "action")
	run(0, "abort", "open")
	app.until(1, "open", "one", "compensation")
	says("show", run(0, "show", "open"), `^open: saga ABORTING`, `(?m)^one +compensation +open +`)
	app.answers(nil)
	run(0, "retry", "open")
	becomes(t, tx, "open", client.TxAborted)
	says("give-up", run(0, "give-up", "left"), `^left: saga GIVEN_UP`)
	metrics(`(?m)^outrigger_transactions\{.*state="ABORTED"\} 1$`, `(?m)^outrigger_transactions\{.*state="GIVEN_UP"\} 1$`, `(?m)^outrigger_transaction_oldest_seconds\{.*\} 0$`)

	says("what has ended", run(1, "abort", "fine"), "FailedPrecondition|FAILED_PRECONDITION", "TX_LATE")
	says("what is not there", run(1, "show", "none"), "TX_NOT_FOUND")
	says("without a gid", run(2, "show"), "which gid")
	says("another action", run(2, "undo"), "unknown action .* abort, give-up, list, retry, show")
}
