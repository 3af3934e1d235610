package mesh

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

const (
	atOnce     = 100 * time.Millisecond // in which an error is answered that waits for nothing
	errorTries = 10                     // of which one has to keep to it: the machine may be busy with others
)

// prompt makes a call that fails with one of some reasons, several times, and the fastest of them at once.
func prompt(t *testing.T, what, reasons string, call func() error) {
	t.Helper()
	best, reason := time.Minute, ""
	for range errorTries {
		began := time.Now()
		err := call()
		best = min(best, time.Since(began))
		given := func(r string) bool { return err != nil && strings.Contains(err.Error(), r) }
		if !slices.ContainsFunc(strings.Split(reasons, " or "), given) || !given(askedService) && !given("127.0.0.1:") {
			t.Fatalf("%s: want %s and what it is about, got %v", what, reasons, err)
		}
		if reason == "" {
			reason, _, _ = strings.Cut(reasons, " or ")
			if !given(reason) {
				t.Logf("%s: %v", what, err) // it has been found out already
			}
		}
	}
	if best > atOnce {
		t.Errorf("%s: the fastest of %d answers took %v", what, errorTries, best)
	}
	t.Logf("%s: %s after %v", what, reason, best)
}

// TestErrorsAtOnce: what cannot be done is said at once, with the reason, in the caller's own protocol.
func TestErrorsAtOnce(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, an unknown service, no instance, a refused and a broken connection are told of within 100 ms, with a reason")
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			t.Parallel()
			r := newRuled(t, w, "mesh: {hold: 0s, defaults: {outlier: {failures: 1000}}, routes: [{service: peer.Hello, timeout: 400ms}]}\n", "v1")
			call := r.caller()
			alone := harness.Start(t, harness.Options{App: "alone", DataDir: t.TempDir()}) // nobody has told it of any service
			stranger := w.client(t, alone.Outbound)
			prompt(t, "no route: nobody has published it", "NO_INSTANCE", func() error { return stranger("fine") })
			prompt(t, "a broken connection", "CONNECTION_LOST", func() error { return call("drop") })
			began := time.Now()
			if err := call("hang"); err == nil || !strings.Contains(err.Error(), "TIMEOUT") {
				t.Errorf("a timeout: %v", err)
			}
			if took := time.Since(began); took < 300*time.Millisecond || took > patience/2 {
				t.Errorf("a timeout of 400 ms is told of after %v", took)
			}
			r.apps[0].stop()
			harness.Eventually(t, patience, func() error { // a call may meet the end of a connection that was there
				if err := call("fine"); err == nil || strings.Contains(err.Error(), "CONNECTION_LOST") {
					return fmt.Errorf("of an application that has just gone: %v", err)
				}
				return nil
			})
			prompt(t, "an application that has just gone: refused", "CONNECT_FAILED or NO_INSTANCE", func() error { return call("fine") })
			harness.Eventually(t, 20*time.Second, func() error { // the provider's sidecar finds that the application has gone
				if err := call("fine"); err == nil || !strings.Contains(err.Error(), "NO_INSTANCE") {
					return fmt.Errorf("of an application that is gone: %v", err)
				}
				return nil
			})
			prompt(t, "no instance", "NO_INSTANCE", func() error { return call("fine") })
		})
	}
}

// TestFrozenInstancesAreLeft: a provider that stands still with its sidecar is left after a few calls that wait for it; none fails.
func TestFrozenInstancesAreLeft(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, an instance that stands still is left after a few attempts that wait for it")
	const perTry = 300 * time.Millisecond
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			t.Parallel()
			r := newRuled(t, w, "mesh: {defaults: {balance: round_robin, outlier: {failures: 3, eject: 30s}, retry: {attempts: 2, per_try: 300ms, budget: 100%}}, routes: [{service: peer.Hello, idempotent: true}]}\n", "v1", "v2")
			call := r.caller()
			r.sidecars[0].Freeze()
			defer r.sidecars[0].Signal(syscall.SIGCONT)
			before, waited := r.apps[0].times("fine"), 0
			for range 60 {
				began := time.Now()
				if err := call("fine"); err != nil {
					t.Errorf("a call that may be repeated: %v", err)
				}
				if time.Since(began) >= perTry {
					waited++
				}
			}
			if n := r.apps[0].times("fine") - before; n != 0 || waited < 3 || waited > 10 {
				t.Errorf("of 60 calls %d waited, and %d came to what stands still", waited, n)
			}
		})
	}
}
