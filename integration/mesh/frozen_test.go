package mesh

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const appVariable = "OUTRIGGER_TEST_APP" // the protocol of an application that this program is to be, in place of the tests

// runApp serves until its input ends. It prints its port.
func runApp(protocol string) {
	for _, w := range wires {
		if w.protocol == protocol {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				panic(err)
			}
			a := newAnswering(ln)
			go w.serve(a, kept{ln, a})
			fmt.Println(a.port)
		}
	}
	io.Copy(io.Discard, os.Stdin)
}

// process is an application of its own, that can be made to stand still until the test ends.
func (w wire) process(t *testing.T) (port int, freeze func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), appVariable+"="+w.protocol)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := fmt.Fscan(bufio.NewReader(out), &port); err != nil {
		t.Fatal(err)
	}
	return port, func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		var state syscall.WaitStatus
		if _, err := syscall.Wait4(cmd.Process.Pid, &state, syscall.WUNTRACED, nil); err != nil || !state.Stopped() {
			t.Fatalf("%v, %v", state, err)
		}
	}
}

// waiting makes calls one after the other, and answers how long those took that waited for what stands still, and how many failed.
func waiting(call func(string) error) (waits []time.Duration, failed int) {
	for range 60 {
		began := time.Now()
		if call("fine") != nil {
			failed++
		}
		if took := time.Since(began); took >= 250*time.Millisecond {
			waits = append(waits, took)
		}
	}
	return waits, failed
}

// TestFrozenInstancesAreLeft: a provider that stands still with its sidecar is left after a few calls that wait for it; none fails.
func TestFrozenInstancesAreLeft(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, an instance that stands still is left after a few attempts that wait for it")
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			t.Parallel()
			r := newRuled(t, w, "mesh: {defaults: {balance: round_robin, outlier: {failures: 3, eject: 30s}, retry: {attempts: 2, per_try: 300ms, budget: 100%}}, routes: [{service: peer.Hello, idempotent: true}]}\n", "v1", "v2")
			call := r.caller()
			r.sidecars[0].Freeze()
			defer r.sidecars[0].Signal(syscall.SIGCONT)
			before := r.apps[0].times("fine")
			if waits, failed := waiting(call); failed != 0 || len(waits) < 1 || len(waits) > 10 {
				t.Errorf("of 60 calls that may be repeated %d failed, and %v waited", failed, waits)
			}
			if n := r.apps[0].times("fine") - before; n != 0 {
				t.Errorf("%d calls came to what stands still", n)
			}
		})
	}
}

// TestFrozenApplicationsAreLeft: a provider whose application stands still behind a sidecar that is well is left after a few calls that wait for
// it. Where they may be repeated none fails; else each of those is told of the timeout, and no other fails.
func TestFrozenApplicationsAreLeft(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, an application that stands still behind its sidecar is left after a few calls that wait for it, tried again or not")
	for _, w := range wires {
		for name, policies := range map[string]string{
			"repeated": "mesh: {defaults: {balance: round_robin, outlier: {failures: 3, eject: 30s}, retry: {attempts: 2, per_try: 300ms, budget: 100%}}, routes: [{service: peer.Hello, idempotent: true}]}\n",
			"once":     "mesh: {defaults: {balance: round_robin, outlier: {failures: 3, eject: 30s}, retry: {attempts: 1}}, routes: [{service: peer.Hello, timeout: 400ms}]}\n",
		} {
			t.Run(w.protocol+"/"+name, func(t *testing.T) {
				t.Parallel()
				r := &ruled{t: t, w: w, dir: t.TempDir()}
				port, freeze := w.process(t)
				r.sidecar("v1", port)
				r.start(policies, "v2")
				call := r.caller()
				freeze()
				waits, failed := waiting(func(method string) error {
					err := call(method)
					if err != nil && (name == "repeated" || !strings.Contains(err.Error(), "TIMEOUT")) {
						t.Error(err)
					}
					return err
				})
				if len(waits) < 1 || len(waits) > 10 || name == "once" && failed != len(waits) {
					t.Errorf("of 60 calls %v waited, and %d failed", waits, failed)
				}
			})
		}
	}
}
