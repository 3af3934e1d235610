package peers_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// has waits until the instances of a folder, each a node with JSON as Curator's discovery writes it, are those addresses.
func (b *board) has(folder string, want ...string) {
	b.t.Helper()
	slices.Sort(want)
	harness.Eventually(b.t, 30*time.Second, func() error {
		names, _, err := b.conn.Children(folder)
		if err != nil && err != zk.ErrNoNode {
			return err
		}
		var got []string
		for _, name := range names {
			text, _, err := b.conn.Get(folder + "/" + name)
			var in struct {
				Address string
				Port    int
			}
			if err == nil {
				err = json.Unmarshal(text, &in)
			}
			if err != nil {
				return err
			}
			got = append(got, fmt.Sprint(in.Address, ":", in.Port))
		}
		slices.Sort(got)
		if strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Errorf("%s has %q, want %q", folder, got, want)
		}
		return nil
	})
}

// springByZookeeper: OpenFeign finds Spring Boot's applications in ZooKeeper, or has its sidecar find them by the url of its client.
func springByZookeeper(t *testing.T, b *board, dir string) {
	const service, folder = "stock", "/services/stock"
	peers := started(t, dir, "springzk", "p", "c")
	providers, consumer := peers[0], peers[1]
	direct, meshed := harness.FreePort(t), harness.FreePort(t)
	at := fmt.Sprint("127.0.0.1:", direct)
	providers.do("export direct %s %d", b.addr, direct)
	b.has(folder, at)
	consumer.do("refer direct %s", b.addr)
	consumer.calls("direct", fmt.Sprint("p", direct))

	ours := b.sidecar("orders", harness.Options{}, ", outbound: {watch: ["+service+"]}")
	consumer.do("refer mesh %s spring.cloud.openfeign.client.config.stock.url=http://%s spring.cloud.openfeign.client.config.stock.default-request-headers.outrigger-service=%s", b.addr, ours.Outbound, service)
	consumer.calls("mesh", fmt.Sprint("p", direct))
	through, beside := begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")

	theirs := b.sidecar(service, harness.Options{Config: fmt.Sprintf("app: {services: [{name: %s, protocol: http, port: %d, registers_itself: true}]}\n", service, meshed)}, "")
	providers.do("export mesh %s %d spring.cloud.zookeeper.discovery.instance-port=%s", b.addr, meshed, port(theirs.Inbound))
	b.has(folder, at, theirs.Inbound)
	through.ends("mesh -> direct", "a provider comes that has a sidecar")
	beside.ends("direct -> direct", "a provider comes that has a sidecar")

	leave := func(name, left string) { // see spring
		t.Helper()
		providers.do("retire %s", name)
		b.has(folder, left)
		consumer.sees("direct", 1)
		providers.do("unexport %s", name)
	}
	through, beside = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	leave("direct", theirs.Inbound)
	through.ends("mesh -> both", "the provider without a sidecar goes")
	beside.ends("direct -> both", "the provider without a sidecar goes")
	for _, reference := range []string{"mesh", "direct"} {
		consumer.calls(reference, fmt.Sprint("p", meshed))
	}
	consumer.sees("direct", 1)

	through, beside = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct") // and back
	providers.do("export direct %s %d", b.addr, direct)
	b.has(folder, at, theirs.Inbound)
	consumer.sees("direct", 2)
	leave("mesh", at)
	through.ends("mesh -> mesh", "a provider comes that has no sidecar, the one with one goes")
	beside.ends("direct -> mesh", "a provider comes that has no sidecar, the one with one goes")
	providers.do("unexport direct")
	b.has(folder)
}
