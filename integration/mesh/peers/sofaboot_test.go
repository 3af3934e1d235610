package peers_test

import (
	"fmt"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// sofaboot: SOFABoot's settings have the registry mesh on either side, and nothing else of its applications differs.
func sofaboot(t *testing.T, b *board, dir string) {
	const folder = sofaProviders
	peers := started(t, dir, "sofaboot", "p", "q", "c", "r")
	provider, next, consumer, last := peers[0], peers[1], peers[2], peers[3]
	direct, meshed := harness.FreePort(t), harness.FreePort(t)
	provider.do("export direct zookeeper://%s %d", b.addr, direct)
	at := fmt.Sprint("127.0.0.1:", direct)
	b.shows(folder, at)
	consumer.do("refer direct zookeeper://%s", b.addr)
	consumer.calls("direct", fmt.Sprint("p", direct))
	consumer.sees("direct", 1)

	// The consumer moves first.
	b.sidecar("orders", harness.Options{}, ", sofarpc: {control: '127.0.0.4:13330', outbound: '127.0.0.4:12220'}")
	consumer.do("refer mesh mesh://127.0.0.4:13330")
	consumer.calls("mesh", fmt.Sprint("p", direct))
	through, beside := begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")

	// Then a provider that has a sidecar comes.
	theirs := b.sidecar("stock", harness.Options{AppPort: meshed, Protocol: "bolt"}, ", sofarpc: {control: '127.0.0.5:13330', outbound: '127.0.0.5:12220'}")
	next.do("export mesh mesh://127.0.0.5:13330 %d", meshed)
	b.shows(folder, at, theirs.Inbound)
	consumer.sees("direct", 2)
	consumer.sees("mesh", 1) // its sidecar, for all

	// The other one goes: what is left is behind the sidecar alone, for both kinds of consumers.
	retires(provider, consumer, func() { provider.do("retire direct"); b.shows(folder, theirs.Inbound) })
	through.ends("mesh -> direct", "a provider comes that has a sidecar, the one without goes")
	beside.ends("direct -> direct", "a provider comes that has a sidecar, the one without goes")
	for _, reference := range []string{"mesh", "direct"} {
		consumer.calls(reference, fmt.Sprint("q", meshed))
	}
	through, beside = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	through.more()
	through.ends("mesh -> mesh", "as it is")
	beside.ends("direct -> mesh", "as it is")

	at = backward(b, consumer, last, theirs)

	// What was published is announced again by a sidecar that comes back, and applications that end are not.
	again := harness.Start(t, theirs.Options)
	b.shows(folder, again.Inbound, at)
	last.do("unexport direct")
	b.shows(folder, again.Inbound)
	consumer.calls("mesh", fmt.Sprint("q", meshed))

	// One that has a sidecar closes while both kinds of consumers call, and another is there: its service alone, then a process that takes its place.
	other := harness.FreePort(t)
	provider.do("export other zookeeper://%s %d", b.addr, other)
	closing(consumer, b, folder, again.Inbound, fmt.Sprint("q", meshed), fmt.Sprint("p", other), func() { next.do("unexport mesh") })
	next.quit()
	last.do("export mesh mesh://127.0.0.5:13330 %d", meshed)
	closing(consumer, b, folder, again.Inbound, fmt.Sprint("r", meshed), fmt.Sprint("p", other), last.quit)
	provider.quit()
	b.shows(folder)
}

// closing has a provider that is behind a sidecar close, under load.
func closing(consumer *jvm, b *board, folder, inbound, who, other string, leave func()) {
	b.t.Helper()
	b.shows(folder, inbound, "127.0.0.1:"+other[1:])
	for _, reference := range []string{"mesh", "direct"} {
		for _, want := range []string{who, other} {
			consumer.reaches(reference, want) // it knows both
		}
	}
	through, beside := begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	through.more()
	leave()
	b.shows(folder, "127.0.0.1:"+other[1:])
	for _, reference := range []string{"mesh", "direct"} {
		consumer.calls(reference, other)
	}
	through.ends("mesh -> direct", "the provider that has a sidecar closes")
	beside.ends("direct -> direct", "the provider that has a sidecar closes")
}
