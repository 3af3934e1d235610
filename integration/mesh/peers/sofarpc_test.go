package peers_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// sofarpc: the registry mesh on either side; the sidecar's port of calls is the one that SOFARPC does not let be changed.
func sofarpc(t *testing.T, b *board, dir string) {
	const folder = sofaProviders
	peers := started(t, dir, "sofa", "p", "q", "c", "r", "d")
	provider, next, consumer, last, late := peers[0], peers[1], peers[2], peers[3], peers[4]
	direct, meshed := harness.FreePort(t), harness.FreePort(t)
	provider.do("export direct zookeeper://%s %d", b.addr, direct)
	at := fmt.Sprint("127.0.0.1:", direct)
	b.shows(folder, at)
	consumer.do("refer direct zookeeper://%s", b.addr)
	consumer.calls("direct", fmt.Sprint("p", direct))
	consumer.sees("direct", 1)

	// The consumer moves first.
	beside := begin(consumerFirst, consumer, "direct")
	ours := b.sidecar("orders", harness.Options{}, ", sofarpc: {control: '127.0.0.2:13330', outbound: '127.0.0.2:12220'}")
	consumer.do("refer mesh mesh://127.0.0.2:13330")
	consumer.calls("mesh", fmt.Sprint("p", direct))
	beside.ends("direct -> direct", "the consumer gets a sidecar")
	through, beside := begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")

	// Then a provider that has a sidecar comes.
	theirs := b.sidecar("stock", harness.Options{AppPort: meshed, Protocol: "bolt"}, ", sofarpc: {control: '127.0.0.3:13330', outbound: '127.0.0.3:12220'}")
	next.do("export mesh mesh://127.0.0.3:13330 %d", meshed)
	b.shows(folder, at, theirs.Inbound)
	consumer.sees("direct", 2)
	consumer.sees("mesh", 1) // its sidecar

	// The other one goes: what is left is behind the sidecar alone, for both kinds of consumers.
	retires(provider, consumer, func() { b.takesOut(folder, is(at)); b.shows(folder, theirs.Inbound) })
	through.ends("mesh -> direct", "a provider comes that has a sidecar, the one without goes")
	beside.ends("direct -> direct", "a provider comes that has a sidecar, the one without goes")
	consumer.calls("mesh", fmt.Sprint("q", meshed))
	consumer.calls("direct", fmt.Sprint("q", meshed))
	consumer.sees("direct", 1)
	through, beside = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	through.more()
	through.ends("mesh -> mesh", "as it is")
	beside.ends("direct -> mesh", "as it is")
	patience(t, consumer, "mesh mesh://127.0.0.2:13330", fmt.Sprint("q", meshed))
	patience(t, consumer, "direct zookeeper://"+b.addr, fmt.Sprint("q", meshed))
	invocations(t, consumer, next, fmt.Sprint("q", meshed))
	uniqueID(t, b, consumer, next, fmt.Sprint("q", meshed), meshed)
	messages(t, consumer, next, meshed)
	fromNode(t, ours.Outbound, fmt.Sprint("q", meshed))

	// A sidecar that is killed announces again what it was asked for once, and nobody else is asked.
	dead := b.owner(folder)
	theirs.Kill()
	began := time.Now()
	again := harness.Start(t, harness.Options{App: "stock", AppPort: meshed, Protocol: "bolt", DataDir: theirs.DataDir, Config: theirs.Options.Config,
		Args: []string{"-inbound-port", port(theirs.Inbound)}})
	ready := time.Now()
	consumer.calls("mesh", fmt.Sprint("q", meshed))
	if since := time.Since(ready); since > 2*time.Second {
		t.Errorf("called again %s after the sidecar was ready", since)
	}
	fmt.Printf("matrix: sofarpc: kill -9 of the provider's sidecar: called again %s after it was started anew\n", time.Since(began).Round(time.Millisecond))
	harness.Eventually(t, 30*time.Second, func() error { // it takes the place of what was left of it, which a consumer sees go and come
		if b.owner(folder) == dead {
			return errors.New("the entry is that of the one that was killed")
		}
		return nil
	})
	b.shows(folder, again.Inbound)
	consumer.calls("direct", fmt.Sprint("q", meshed))

	back := backward(b, consumer, last, again)

	// Now the provider moves first, and a consumer follows that has known none with a sidecar.
	late.do("refer direct zookeeper://%s", b.addr)
	late.sees("direct", 1)
	late.calls("direct", "r"+port(back))
	beside = begin(providerFirst, late, "direct")
	again = harness.Start(t, again.Options)
	b.shows(folder, again.Inbound, back)
	late.sees("direct", 2)
	retires(last, late, func() { b.takesOut(folder, is(back)); b.shows(folder, again.Inbound) })
	beside.ends("direct -> direct", "a provider comes that has a sidecar, the one without goes")
	late.calls("direct", fmt.Sprint("q", meshed))
	beside = begin(providerFirst, late, "direct")
	late.do("refer mesh mesh://127.0.0.2:13330")
	late.calls("mesh", fmt.Sprint("q", meshed))
	through = begin(providerFirst, late, "mesh")
	through.more()
	beside.ends("direct -> mesh", "the consumer gets a sidecar")
	through.ends("mesh -> mesh", "as it is")
	consumer.calls("mesh", fmt.Sprint("q", meshed))

	// An application that has gone is not announced.
	next.quit()
	b.shows(folder)
	// An instance that is dropped with all others is asked for a while more (mesh.hold), and says itself that it does not serve this.
	if said := consumer.do("callback callback gone"); !refused(said, "framework ") {
		t.Errorf("a callback of a provider that is gone: %s", said)
	}
	if said, err := consumer.try("future future gone"); err == nil || !refused(err.Error(), "") {
		t.Errorf("a future of a provider that is gone: %s, %v", said, err)
	}
	_ = ours
	virtual(t, b, dir, late)
}

// retires has a provider without a sidecar leave as one that is to lose no call of its consumers: it is taken out of the registry first, by an operator or
// by itself, and closed when all have heard. SOFARPC by itself does both at once.
func retires(provider, consumer *jvm, takenOut func()) {
	consumer.t.Helper()
	takenOut()
	consumer.sees("direct", 1)
	provider.do("unexport direct")
}

func is(address string) func(string) bool { return func(at string) bool { return at == address } }

// backward: a provider comes that has no sidecar while both kinds of consumers call, and the sidecar of the other one ends. It answers where that one is.
func backward(b *board, consumer, last *jvm, theirs *harness.Sidecar) (at string) {
	b.t.Helper()
	direct := harness.FreePort(b.t)
	at = fmt.Sprint("127.0.0.1:", direct)
	through, beside := begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	last.do("export direct zookeeper://%s %d", b.addr, direct)
	b.shows(sofaProviders, theirs.Inbound, at)
	consumer.reaches("direct", fmt.Sprint("r", direct)) // SOFARPC has connected to it, or it would be left with nobody
	if code := theirs.Stop(); code != 0 {
		b.t.Errorf("exit %d", code)
	}
	b.shows(sofaProviders, at)
	through.ends("mesh -> mesh", "a provider comes that has no sidecar, and the sidecar of the other ends")
	beside.ends("direct -> mesh", "a provider comes that has no sidecar, and the sidecar of the other ends")
	for _, reference := range []string{"mesh", "direct"} {
		consumer.calls(reference, fmt.Sprint("r", direct))
	}
	return at
}

// refused tells whether a sidecar says that nobody serves what was called. Who goes as the last is asked for a while more.
func refused(said, prefix string) bool {
	return strings.HasPrefix(said, prefix) && slices.ContainsFunc([]string{"NO_INSTANCE", "no instance", "SERVICE_NOT_HERE", "CONNECT_FAILED"}, func(reason string) bool { return strings.Contains(said, reason) })
}

// uniqueID: a service with an id of its own is another one, for both kinds of consumers.
func uniqueID(t *testing.T, b *board, consumer, provider *jvm, who string, port int) {
	t.Helper()
	consumer.do("invoke sync")
	for _, p := range []*jvm{consumer, provider} {
		p.do("unique blue")
	}
	provider.do("export blue mesh://127.0.0.3:13330 %d", port)
	consumer.do("refer blue mesh://127.0.0.2:13330")
	consumer.do("refer blue-direct zookeeper://%s", b.addr)
	consumer.calls("blue", "blue"+who)
	consumer.calls("blue-direct", "blue"+who)
	for _, reference := range []string{"mesh", "direct"} {
		consumer.calls(reference, who)
	}
	for _, p := range []*jvm{consumer, provider} {
		p.do("unique")
	}
	provider.do("unexport blue")
}

// messages: bodies of protobuf pass as they are.
func messages(t *testing.T, consumer, provider *jvm, port int) {
	t.Helper()
	provider.do("messages export mesh://127.0.0.3:13330 %d", port)
	consumer.do("messages refer mesh://127.0.0.2:13330")
	failed := 0
	for i := range 20 {
		if said, err := consumer.try("messages say %d", i); said != fmt.Sprint("q ", i) {
			failed++
			t.Errorf("by protobuf: %s, %v", said, err)
		}
	}
	consumer.line("mesh -> mesh", consumerFirst, "messages of protobuf", 20, failed)
}

// virtual: a provider that registers the port of its sidecar by itself, in ZooKeeper.
func virtual(t *testing.T, b *board, dir string, consumer *jvm) {
	t.Helper()
	provider, serves := started(t, dir, "sofa", "v")[0], harness.FreePort(t)
	theirs := b.sidecar("stock", harness.Options{Config: fmt.Sprintf("app: {services: [{name: 'peer.Hello:1.0', protocol: bolt, port: %d, registers_itself: true}]}\n", serves)}, "")
	provider.do("export virtual zookeeper://%s %d %s", b.addr, serves, port(theirs.Inbound))
	b.shows(sofaProviders, theirs.Inbound)
	for _, reference := range []string{"mesh", "direct"} {
		through(t, theirs, "bolt", consumer, reference, fmt.Sprint("v", serves))
	}
	consumer.sees("direct", 1)
	provider.quit()
	b.shows(sofaProviders)
}

// invocations: the other ways in which SOFARPC calls, through both sidecars. who is what the provider answers.
func invocations(t *testing.T, consumer, provider *jvm, who string) {
	t.Helper()
	for _, kind := range []string{"future", "callback", "oneway"} {
		consumer.do("invoke %s", kind)
		consumer.do("refer %s mesh://127.0.0.2:13330", kind)
	}
	failed := 0
	for i := range 20 {
		for _, kind := range []string{"future", "callback"} {
			if said, err := consumer.try("%s %[1]s %d", kind, i); said != fmt.Sprint(who, ":", i) {
				failed++
				t.Errorf("%s: %s, %v", kind, said, err)
			}
		}
		if said := consumer.do("call oneway once-%d", i); said != "null" {
			t.Errorf("a one-way call was answered: %s", said)
		}
	}
	if said := consumer.do("callback callback fail"); said != "application no fail" {
		t.Errorf("a callback of a call that throws: %s", said)
	}
	if said, err := consumer.try("future future fail"); err == nil || !strings.Contains(err.Error(), "no fail") {
		t.Errorf("a future of a call that throws: %s, %v", said, err)
	}
	for i := range 20 {
		harness.Eventually(t, 30*time.Second, func() error {
			if n := provider.do("heard once-%d", i); n != "1" {
				return fmt.Errorf("one-way call %d came %s times", i, n)
			}
			return nil
		})
	}
	consumer.line("mesh -> mesh", consumerFirst, "future, callback and one-way", 3*20, failed)
}
