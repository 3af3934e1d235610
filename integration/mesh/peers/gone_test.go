package peers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// gone: a provider without a sidecar has stopped to serve, its port is open, and the registry names it for as long as consumers may take to hear of it.
// Stock ones are told that there is no such service; behind a sidecar nobody hears of it, since another instance is there.
func gone(t *testing.T, b *board, dir, framework, folder string) {
	peers := started(t, dir, framework, "p", "q", "c")
	provider, next, consumer := peers[0], peers[1], peers[2]
	if framework == "dubbo3" {
		for _, p := range peers {
			p.do("set dubbo.application.register-mode interface")
		}
	}
	first, second := harness.FreePort(t), harness.FreePort(t)
	provider.do("export direct zookeeper://%s %d", b.addr, first)
	b.shows(folder, fmt.Sprint("127.0.0.1:", first))
	names, _, err := b.conn.Children(folder)
	if err != nil {
		t.Fatal(err)
	}
	if framework == "sofa" { // or its port is closed with its last service
		provider.do("messages export zookeeper://%s %d", b.addr, first)
	}
	next.do("export direct zookeeper://%s %d", b.addr, second)
	ours := b.sidecar("orders", harness.Options{}, "")
	consumer.do("refer mesh %s %s://%s", none(framework), protocols[framework], ours.Outbound)
	for _, who := range []string{fmt.Sprint("p", first), fmt.Sprint("q", second)} {
		consumer.reaches("mesh", who)
	}
	through := begin(consumerFirst, consumer, "mesh")
	through.more()
	provider.do("unexport direct")
	if _, err := b.conn.Create(folder+"/"+names[0], nil, 0, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	b.shows(folder, fmt.Sprint("127.0.0.1:", first), fmt.Sprint("127.0.0.1:", second))
	through.more()
	through.ends("mesh -> direct", "a provider does not serve it any more, and the registry has it still")
	consumer.calls("mesh", fmt.Sprint("q", second))
	if framework == "sofa" {
		inner(t, b, ours.Outbound, consumer, provider, next)
	}
	b.forgets(folder)
}

// inner: a service that throws what it was told of another one has begun the call, which is not made again. By protobuf its text alone is sent, like what
// SOFARPC says itself.
func inner(t *testing.T, b *board, outbound string, consumer, provider, next *jvm) {
	t.Helper()
	next.do("messages export zookeeper://%s %d", b.addr, harness.FreePort(t))
	consumer.do("messages refer none bolt://%s", outbound)
	for _, who := range []string{"p", "q"} {
		harness.Eventually(t, 30*time.Second, func() error {
			if said, err := consumer.try("messages say x"); said != who+" x" {
				return fmt.Errorf("answered by %s, %v, not by %s", said, err, who)
			}
			return nil
		})
	}
	for i := range 20 {
		if said, err := consumer.try("messages say inner%d", i); err == nil || !strings.Contains(err.Error(), "peer.Inner") {
			t.Errorf("a call that throws: %s, %v", said, err)
		}
		if p, n := provider.do("heard inner%d", i), next.do("heard inner%d", i); p+n != "01" && p+n != "10" {
			t.Errorf("a call that throws came %s times here and %s times there", p, n)
		}
	}
}

// none is the registry of a provider or a consumer that has none.
func none(framework string) string {
	if framework == "sofa" {
		return "none"
	}
	return "N/A"
}
