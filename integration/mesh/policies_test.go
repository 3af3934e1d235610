package mesh

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// ruled are providers with sidecars, and the sidecar of a consumer that has policies.
type ruled struct {
	t        *testing.T
	w        wire
	dir      string
	more     string // of the providers' configuration
	apps     []*answering
	sidecars []*harness.Sidecar
	consumer *harness.Sidecar
}

// newRuled starts a provider for each version, which is its label, and a consumer whose policies those are, and waits until it knows all.
func newRuled(t *testing.T, w wire, policies string, versions ...string) *ruled {
	r := &ruled{t: t, w: w, dir: t.TempDir()}
	r.start(policies, versions...)
	return r
}

func (r *ruled) start(policies string, versions ...string) {
	for _, v := range versions {
		r.provider(v)
	}
	r.consumer = harness.Start(r.t, harness.Options{App: "consumer", DataDir: r.t.TempDir(), Config: r.registry() + policies})
	call := r.caller()
	harness.Eventually(r.t, 30*time.Second, func() error {
		if n := instancesOf(r.consumer); n != len(r.sidecars) {
			call("fine") // it looks for what is called
			return fmt.Errorf("%d instances", n)
		}
		return call("fine")
	})
}

func (r *ruled) registry() string {
	return "registry: {default: {driver: file, options: {dir: " + r.dir + "}}}\ndrain: {propagation: 500ms, quiet: 200ms}\n"
}

func (r *ruled) provider(version string) {
	r.apps = append(r.apps, r.w.app(r.t))
	r.sidecar(version, r.apps[len(r.apps)-1].port)
}

// sidecar starts that of a provider at a port.
func (r *ruled) sidecar(version string, port int) {
	of := ""
	if r.w.protocol == "bolt" {
		of = ", version: '1.0'"
	}
	r.sidecars = append(r.sidecars, harness.Start(r.t, harness.Options{App: "provider-" + version, DataDir: r.t.TempDir(), Config: r.registry() + r.more +
		fmt.Sprintf("app: {services: [{name: %s, protocol: %s, port: %d, labels: {version: %s}%s}]}\n", askedService, r.w.protocol, port, version, of)}))
}

func (r *ruled) caller() func(string) error { return r.w.client(r.t, r.consumer.Outbound) }

// spread makes so many calls, over several connections, each of which must end as want says.
func (r *ruled) spread(calls int, method string, want func(error) bool) {
	r.t.Helper()
	const workers = 8
	var all sync.WaitGroup
	for range workers {
		call := r.caller()
		all.Go(func() {
			for range calls / workers {
				if err := call(method); !want(err) {
					r.t.Errorf("%s: %v", method, err)
				}
			}
		})
	}
	all.Wait()
}

func fine(err error) bool { return err == nil }

func failed(err error) bool { return err != nil }

// hasReason waits for nothing: an error with the reason of the sidecar, in the caller's own protocol.
func (r *ruled) hasReason(err error, reason string) {
	r.t.Helper()
	if err == nil || !strings.Contains(err.Error(), reason) {
		r.t.Errorf("want %s, got %v", reason, err)
	}
}

// TestPolicies has the real binary keep to each policy in each protocol; what arrives is counted at the providers.
func TestPolicies(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, a route sets the timeout")
	t.Log("feature: http grpc bolt dubbo, repetitions stay within the budget, counted at the provider")
	t.Log("feature: http grpc bolt dubbo, what is not safe to repeat arrives at most once")
	t.Log("feature: http grpc bolt dubbo, a breaker bounds what is under way")
	t.Log("feature: http grpc bolt dubbo, an instance that fails is out of play for a while")
	t.Log("feature: http grpc bolt dubbo, calls are divided among labels by weight")
	t.Log("feature: http grpc bolt dubbo, an instance that is taken away loses no call, nor one that is under way")
	t.Log("feature: http grpc bolt dubbo, a provider that is killed, or its application alone, gets no calls a second later")
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			t.Parallel()
			for _, c := range []struct {
				name string
				run  func(t *testing.T, w wire)
			}{{"timeout", timeoutHolds}, {"budget", budgetHolds}, {"once", arrivesOnce}, {"breaker", breakerHolds}, {"ejection", ejectionHolds}, {"split", splitHolds}, {"leave", leaveHolds}, {"kill", killHolds}, {"kill app", killAppHolds}} {
				t.Run(c.name, func(t *testing.T) { c.run(t, w) })
			}
		})
	}
}

func timeoutHolds(t *testing.T, w wire) {
	r := newRuled(t, w, "mesh: {routes: [{service: peer.Hello, timeout: 300ms}]}\n", "v1")
	began := time.Now()
	r.hasReason(r.caller()("hang"), "TIMEOUT")
	if took := time.Since(began); took < 250*time.Millisecond || took >= patience {
		t.Errorf("answered after %v", took)
	}
}

// Of 500 calls each of which fails for want of an instance that can, at most a fifth is repeated, and two before the first ten.
func budgetHolds(t *testing.T, w wire) {
	const calls = 496
	r := newRuled(t, w, "mesh: {routes: [{service: peer.Hello, idempotent: true}]}\n", "v1")
	r.spread(calls, "busy", failed)
	if n := r.apps[0].times("busy"); n < calls*11/10 || n > calls*12/10+2 {
		t.Errorf("%d calls arrived %d times", calls, n)
	}
}

func arrivesOnce(t *testing.T, w wire) {
	r := newRuled(t, w, "mesh: {defaults: {retry: {per_try: 300ms}}}\n", "v1", "v2")
	call := r.caller()
	methods := []string{"busy", "drop"}
	if w.protocol == "bolt" || w.protocol == "dubbo" {
		methods = methods[1:] // who is busy has begun nothing there, and says so
	}
	for _, method := range methods {
		for range 20 {
			if call(method) == nil {
				t.Errorf("%s did not fail", method)
			}
		}
		if n := r.apps[0].times(method) + r.apps[1].times(method); n == 0 || n > 20 {
			t.Errorf("%s: 20 calls arrived %d times", method, n)
		}
	}
	r.spread(16, "hang", failed)
	if n := r.apps[0].times("hang") + r.apps[1].times("hang"); n == 0 || n > 16 {
		t.Errorf("16 calls that nobody answered arrived %d times", n)
	}
}

func breakerHolds(t *testing.T, w wire) {
	r := newRuled(t, w, "mesh: {routes: [{service: peer.Hello, timeout: 4s, breaker: {service: 1}}]}\n", "v1")
	first, second, ended := r.caller(), r.caller(), make(chan error, 1)
	go func() { ended <- first("hang") }()
	harness.Eventually(t, patience, func() error {
		if r.apps[0].times("hang") == 0 {
			return errNoFailure
		}
		return nil
	})
	r.hasReason(second("fine"), "BREAKER_OPEN")
	r.hasReason(<-ended, "TIMEOUT")
	harness.Eventually(t, patience, func() error { return second("fine") }) // the sidecar counts a call until its answer is out
}

// An instance that breaks off three calls gets no more of them for as long as eject says, and then some again; also where the calls are repeated.
func ejectionHolds(t *testing.T, w wire) {
	for _, repeated := range []bool{false, true} {
		r := newRuled(t, w, fmt.Sprintf("mesh: {defaults: {balance: round_robin, outlier: {failures: 3, eject: 3s}, retry: {attempts: %d, budget: 100%%}}, routes: [{service: peer.Hello, idempotent: true}]}\n",
			map[bool]int{false: 1, true: 2}[repeated]), "v1", "v2")
		call, failed, want := r.caller(), 0, map[bool]int{false: 3, true: 0}[repeated]
		r.apps[0].broken.Store(true)
		for range 60 {
			if call("fine") != nil {
				failed++
			}
		}
		if n := r.apps[0].times("drop"); n != 3 || failed != want {
			t.Errorf("repeated %v: %d calls arrived at what breaks off, and %d failed, not %d", repeated, n, failed, want)
		}
		r.apps[0].broken.Store(false)
		before := r.apps[0].times("fine")
		harness.Eventually(t, patience, func() error {
			if err := call("fine"); err != nil {
				t.Error(err)
			}
			if r.apps[0].times("fine") == before {
				return errNoFailure
			}
			return nil
		})
	}
}

func splitHolds(t *testing.T, w wire) {
	const calls = 4000
	r := newRuled(t, w, "mesh: {routes: [{service: peer.Hello, split: [{labels: {version: v2}, weight: 10}, {labels: {version: v1}, weight: 90}]}]}\n", "v1", "v2")
	before := r.apps[1].times("fine")
	r.spread(calls, "fine", fine)
	if n := r.apps[1].times("fine") - before; n < calls*8/100 || n > calls*12/100 { // four standard deviations
		t.Errorf("%d of %d calls went to v2", n, calls)
	}
}

// hold makes calls until each provider has one that it does not answer yet. answered has it do so, and waits for them: none may fail.
func (r *ruled) hold() (answered func()) {
	r.t.Helper()
	var calls sync.WaitGroup
	for _, a := range r.apps {
		harness.Eventually(r.t, patience, func() error {
			if a.times("held") > 0 {
				return nil
			}
			call := r.caller()
			calls.Go(func() {
				if err := call("held"); err != nil {
					r.t.Errorf("a call that was under way: %v", err)
				}
			})
			return errNoFailure
		})
	}
	return func() {
		for _, a := range r.apps {
			close(a.letGo)
		}
		calls.Wait()
	}
}

// knows waits until the consumer has so many instances.
func (r *ruled) knows(n int) {
	r.t.Helper()
	harness.Eventually(r.t, 20*time.Second, func() error {
		if got := instancesOf(r.consumer); got != n {
			return fmt.Errorf("%d instances, not %d", got, n)
		}
		return nil
	})
}

// The sidecar of one of two providers ends in order while calls are made.
func leaveHolds(t *testing.T, w wire) {
	r := newRuled(t, w, "mesh: {defaults: {retry: {attempts: 1}}}\n", "v1", "v2")
	callers := make(chan func(string) error, 8)
	for range cap(callers) {
		callers <- r.caller()
	}
	call := func() error {
		c := <-callers
		defer func() { callers <- c }()
		return c("fine")
	}
	underWay := r.hold()
	l := begin(t, call)
	l.more(100)
	stopped := make(chan int, 1)
	go func() { stopped <- r.sidecars[0].Stop() }()
	r.knows(1)
	underWay()
	if code := <-stopped; code != 0 {
		t.Errorf("exit %d", code)
	}
	at := r.apps[0].times("fine")
	l.more(100)
	l.end()
	if n := r.apps[0].times("fine"); n != at {
		t.Errorf("%d calls arrived where nobody is any more", n-at)
	}
}

// One of two providers is killed, with its sidecar or without, while calls are made that are not tried elsewhere: a second later none goes there.
func killHolds(t *testing.T, w wire) { killed(t, w, true) }

func killAppHolds(t *testing.T, w wire) { killed(t, w, false) }

func killed(t *testing.T, w wire, sidecar bool) {
	r := newRuled(t, w, "mesh: {defaults: {retry: {attempts: 1}}}\n", "v1", "v2")
	callers := make(chan func(string) error, 8)
	for range cap(callers) {
		callers <- r.caller()
	}
	var failed, last atomic.Int64
	l := begin(t, func() error {
		c := <-callers
		defer func() { callers <- c }()
		if c("fine") != nil {
			failed.Add(1)
			last.Store(time.Now().UnixNano())
		}
		return nil
	})
	l.more(100)
	if n := failed.Load(); n > 0 {
		t.Fatalf("%d calls failed before", n)
	}
	at := time.Now()
	if sidecar {
		r.sidecars[0].Signal(syscall.SIGKILL)
	}
	r.apps[0].stop()
	harness.Eventually(t, patience, func() error {
		if time.Since(at) < 3*time.Second/2 {
			return errNoFailure
		}
		return nil
	})
	l.more(100)
	l.end()
	if late := time.Duration(last.Load() - at.UnixNano()); late > time.Second {
		t.Errorf("%d calls failed, the last %v after the end", failed.Load(), late)
	}
	t.Logf("%d calls failed, the last %v after the end", failed.Load(), time.Duration(last.Load()-at.UnixNano()))
}
