package peers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// dubbo: 3.3 registers its sidecar's port by a setting, for 2.7 the sidecar registers; a url leads a consumer to its own.
func dubbo(t *testing.T, b *board, dir, framework string) {
	peers := started(t, dir, framework, "p", "q", "c", "r", "s", "d")
	provider, next, consumer, last, again, late := peers[0], peers[1], peers[2], peers[3], peers[4], peers[5]
	for _, p := range peers {
		p.do("set dubbo.application.register-mode interface")
	}
	m := &dubboMesh{t, b, framework == "dubbo3"}
	direct := harness.FreePort(t)
	at := fmt.Sprint("127.0.0.1:", direct)
	provider.do("export direct zookeeper://%s %d", b.addr, direct)
	b.shows(dubboProviders, at)
	consumer.do("refer direct zookeeper://%s", b.addr)
	consumer.calls("direct", fmt.Sprint("p", direct))
	consumer.sees("direct", 1)

	beside := begin(consumerFirst, consumer, "direct")
	ours := b.sidecar("orders", harness.Options{}, "")
	consumer.do("refer mesh zookeeper://%s dubbo://%s", b.addr, ours.Outbound)
	consumer.calls("mesh", fmt.Sprint("p", direct))
	beside.ends("direct -> direct", "the consumer gets a sidecar")

	// The provider follows: one comes that has a sidecar, and the other one goes.
	through, beside := begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	theirs, meshed := m.export(next)
	b.shows(dubboProviders, at, theirs.Inbound)
	consumer.sees("direct", 2)
	provider.do("unexport direct")
	b.shows(dubboProviders, theirs.Inbound)
	consumer.sees("direct", 1)
	through.ends("mesh -> direct", "a provider comes that has a sidecar, the one without goes")
	beside.ends("direct -> direct", "a provider comes that has a sidecar, the one without goes")
	consumer.calls("mesh", fmt.Sprint("q", meshed))
	consumer.calls("direct", fmt.Sprint("q", meshed))
	dubboKinds(t, ours, consumer, next, fmt.Sprint("q", meshed))
	patience(t, consumer, fmt.Sprintf("mesh zookeeper://%s dubbo://%s", b.addr, ours.Outbound), fmt.Sprint("q", meshed))
	patience(t, consumer, "direct zookeeper://"+b.addr, fmt.Sprint("q", meshed))

	// And back, while both kinds of consumers call.
	back := harness.FreePort(t)
	through, beside = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	last.do("export direct zookeeper://%s %d", b.addr, back)
	b.shows(dubboProviders, theirs.Inbound, fmt.Sprint("127.0.0.1:", back))
	consumer.sees("direct", 2)
	m.leave(next, theirs)
	b.shows(dubboProviders, fmt.Sprint("127.0.0.1:", back))
	consumer.sees("direct", 1)
	through.ends("mesh -> mesh", "a provider comes that has no sidecar, the one with one goes")
	beside.ends("direct -> mesh", "a provider comes that has no sidecar, the one with one goes")
	for _, reference := range []string{"mesh", "direct"} {
		consumer.calls(reference, fmt.Sprint("r", back))
	}

	// Now the provider moves first, and a consumer follows that has known none with a sidecar.
	late.do("refer direct zookeeper://%s", b.addr)
	late.calls("direct", fmt.Sprint("r", back))
	beside = begin(providerFirst, late, "direct")
	theirs, meshed = m.export(again)
	b.shows(dubboProviders, theirs.Inbound, fmt.Sprint("127.0.0.1:", back))
	late.sees("direct", 2)
	last.do("unexport direct")
	b.shows(dubboProviders, theirs.Inbound)
	late.sees("direct", 1)
	beside.ends("direct -> direct", "a provider comes that has a sidecar, the one without goes")
	late.calls("direct", fmt.Sprint("s", meshed))
	beside = begin(providerFirst, late, "direct")
	late.do("refer mesh zookeeper://%s dubbo://%s", b.addr, ours.Outbound)
	late.calls("mesh", fmt.Sprint("s", meshed))
	through = begin(providerFirst, late, "mesh")
	through.more()
	beside.ends("direct -> mesh", "the consumer gets a sidecar")
	through.ends("mesh -> mesh", "as it is")

	// One is killed whose sidecar is well, and leaves its own record behind: nobody calls it through sidecars.
	rest := harness.FreePort(t)
	provider.do("export rest zookeeper://%s %d", b.addr, rest)
	b.shows(dubboProviders, theirs.Inbound, fmt.Sprint("127.0.0.1:", rest))
	for _, who := range []string{fmt.Sprint("p", rest), fmt.Sprint("s", meshed)} {
		consumer.reaches("mesh", who)
	}
	again.kill()
	killed := time.Now()
	consumer.calls("mesh", fmt.Sprint("p", rest))
	if since := time.Since(killed); since > 10*time.Second { // what is left of it goes when its session is over, much later
		t.Errorf("it was called for %s", since)
	}
	through = begin(providerFirst, consumer, "mesh")
	through.more()
	through.ends("mesh -> both", "the one with a sidecar has been killed, and the sidecar is well")

	for _, p := range []*jvm{provider, next, last} {
		p.quit()
	}
	theirs.Stop()
	b.forgets(dubboProviders)
	if said, err := consumer.try("call mesh gone"); err == nil || !refused(err.Error(), "") {
		t.Errorf("a call when all providers are gone: %s, %v", said, err)
	}
}

// byApplication: a consumer of Dubbo 3 that finds applications as a whole first asks the MetadataService of each what it serves, at the port that is
// registered, which is its sidecar's.
func byApplication(t *testing.T, b *board, dir string) {
	peers := started(t, dir, "dubbo3", "p", "c")
	provider, consumer := peers[0], peers[1]
	provider.do("set dubbo.application.register-mode all")
	consumer.do("set dubbo.application.service-discovery.migration FORCE_APPLICATION")
	consumer.do("set dubbo.reference.peer.Hello.provided-by dubbo-p")
	m := &dubboMesh{t, b, true}
	theirs, serves := m.export(provider)
	b.shows(dubboProviders, theirs.Inbound)
	consumer.do("refer direct zookeeper://%s", b.addr)
	through(t, theirs, "dubbo", consumer, "direct", fmt.Sprint("p", serves))
	consumer.sees("direct", 1)
	if page := theirs.Page("/metrics"); !strings.Contains(page, `code="OK",direction="inbound",protocol="dubbo",service="org.apache.dubbo.metadata.MetadataService"`) {
		t.Error("nobody has asked the MetadataService by the sidecar")
	}
	provider.quit()
	b.shows(dubboProviders)
}

// dubboMesh brings providers into the mesh and out of it.
type dubboMesh struct {
	t      *testing.T
	b      *board
	itself bool // the application registers, by its sidecar's port
}

// export has a provider serve behind a sidecar of its own.
func (m *dubboMesh) export(provider *jvm) (theirs *harness.Sidecar, serves int) {
	m.t.Helper()
	serves = harness.FreePort(m.t)
	theirs = m.b.sidecar("stock", harness.Options{Config: fmt.Sprintf("app: {services: [{name: peer.Hello, protocol: dubbo, port: %d, registers_itself: %t}]}\n", serves, m.itself)}, "")
	registry := "N/A"
	if m.itself {
		provider.do("set DUBBO_PORT_TO_REGISTRY %s", port(theirs.Inbound))
		provider.do("set dubbo.application.metadata-service-port %d", serves) // as it is by itself where the application has one protocol
		registry = "zookeeper://" + m.b.addr
	}
	provider.do("export mesh %s %d", registry, serves)
	return theirs, serves
}

// leave has who has registered the provider take that back first: Dubbo serves for a while more, as a sidecar does.
func (m *dubboMesh) leave(provider *jvm, theirs *harness.Sidecar) {
	m.t.Helper()
	if m.itself {
		provider.do("unexport mesh")
		return
	}
	if code := theirs.Stop(); code != 0 {
		m.t.Errorf("exit %d", code)
	}
}

// dubboKinds: what else there is of Dubbo's calls, through both sidecars. who is what the provider answers.
func dubboKinds(t *testing.T, ours *harness.Sidecar, consumer, provider *jvm, who string) {
	t.Helper()
	failed := 0
	expect := func(want, format string, args ...any) {
		t.Helper()
		if said, err := consumer.try(format, args...); said != want || err != nil {
			failed++
			t.Errorf("%s: %q, %v", fmt.Sprintf(format, args...), said, err)
		}
	}
	for i := range 20 {
		expect(fmt.Sprint(who, ":", i), "generic hello N/A dubbo://%s %d", ours.Outbound, i)
		expect(fmt.Sprint("v", i), "attached mesh v%d", i)
		expect("", "oneway mesh once-%d", i)
	}
	if said, err := consumer.try("generic nothing N/A dubbo://%s x", ours.Outbound); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a method that is not there: %s, %v", said, err)
	}
	for i := range 20 {
		harness.Eventually(t, 30*time.Second, func() error {
			if n := provider.do("heard once-%d", i); n != "1" {
				return fmt.Errorf("one-way call %d came %s times", i, n)
			}
			return nil
		})
	}
	consumer.line("mesh -> mesh", consumerFirst, "generic, with an attachment, and one-way", 3*20, failed)
}
