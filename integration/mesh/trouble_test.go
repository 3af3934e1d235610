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

// onTime makes calls that nobody answers: each ends with the timeout, none before it, and the fastest at it.
func onTime(t *testing.T, timeout time.Duration, call func() error) {
	t.Helper()
	best := time.Minute
	for range 5 {
		began := time.Now()
		if err := call(); err == nil || !strings.Contains(err.Error(), "TIMEOUT") {
			t.Errorf("a timeout: %v", err)
		}
		best = min(best, time.Since(began))
	}
	if best < timeout-atOnce || best > timeout+atOnce {
		t.Errorf("the fastest of 5 answers to what has %v took %v", timeout, best)
	}
	t.Logf("a timeout of %v: TIMEOUT after %v", timeout, best)
}

// refusingPort is taken, so that nobody else gets it, and refuses all connections.
func refusingPort(t *testing.T) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return at.(*syscall.SockaddrInet4).Port
}

// newDead is a caller of a service that is registered at one address, where nobody listens.
func newDead(t *testing.T, w wire) func(string) error {
	t.Helper()
	r := &ruled{t: t, w: w, dir: t.TempDir(), more: fmt.Sprintf("mesh: {inbound: {advertise: '127.0.0.1:%d'}}\n", refusingPort(t))}
	r.provider("dead")
	r.consumer = harness.Start(t, harness.Options{App: "consumer", DataDir: t.TempDir(), Config: r.registry() + "mesh: {defaults: {outlier: {failures: 1000}}}\n"})
	call := r.caller()
	harness.Eventually(t, 20*time.Second, func() error {
		if err := call("fine"); err == nil || strings.Contains(err.Error(), "NO_INSTANCE") {
			return fmt.Errorf("of an instance at a port where nobody listens: %v", err)
		}
		return nil
	})
	return call
}

// TestErrorsAtOnce: what cannot be done is said at once, with the reason, in the caller's own protocol.
func TestErrorsAtOnce(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, an unknown service, no instance, a refused, a broken and a reset connection are told of within 100 ms, a timeout at it, with a reason")
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			t.Parallel()
			r := newRuled(t, w, "mesh: {hold: 0s, defaults: {outlier: {failures: 1000}}, routes: [{service: peer.Hello, timeout: 400ms}]}\n", "v1")
			call := r.caller()
			alone := harness.Start(t, harness.Options{App: "alone", DataDir: t.TempDir()}) // nobody has told it of any service
			stranger := w.client(t, alone.Outbound)
			prompt(t, "no route: nobody has published it", "NO_INSTANCE", func() error { return stranger("fine") })
			prompt(t, "a broken connection", "CONNECTION_LOST", func() error { return call("drop") })
			prompt(t, "a connection that is reset", "CONNECTION_LOST", func() error { return call("reset") })
			onTime(t, 400*time.Millisecond, func() error { return call("hang") })
			dead := newDead(t, w)
			prompt(t, "an address where nobody listens", "CONNECT_FAILED", func() error { return dead("fine") })
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
