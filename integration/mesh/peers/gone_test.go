package peers_test

import (
	"fmt"
	"testing"

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
	b.forgets(folder)
}

// none is the registry of a provider or a consumer that has none.
func none(framework string) string {
	if framework == "sofa" {
		return "none"
	}
	return "N/A"
}
