package peers_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// spring: OpenFeign finds Spring Boot's applications in Nacos, or has its sidecar find them, by each of the ways in. One process has the
// providers and one the consumers, each an application of its own.
func spring(t *testing.T, s *servers.Server, dir string) {
	const service = "stock"
	peers := started(t, dir, "spring", "p", "c")
	providers, consumer := peers[0], peers[1]
	direct, meshed := harness.FreePort(t), harness.FreePort(t)
	at := fmt.Sprint("127.0.0.1:", direct)
	// Nacos takes requests before it takes instances, and an application that cannot register does not start.
	harness.Eventually(t, 60*time.Second, func() error {
		_, err := providers.try("export direct %s %d", s.Addr(), direct)
		return err
	})
	listed(t, s.Addr(), nacosPublic, service, at)
	consumer.do("refer direct %s", s.Addr())
	consumer.calls("direct", fmt.Sprint("p", direct))

	// The consumer moves first, by the url of its Feign client, and by a list of instances that stands before Nacos.
	ours := harness.Start(t, harness.Options{App: "orders", Config: byNacos(s, fmt.Sprintf(", outbound: {watch: [%s]}", service), "")})
	named := "spring.cloud.openfeign.client.config.stock.default-request-headers.outrigger-service=" + service
	consumer.do("refer mesh %s spring.cloud.openfeign.client.config.stock.url=http://%s %s", s.Addr(), ours.Outbound, named)
	consumer.do("refer simple %s spring.cloud.discovery.client.simple.instances.stock[0].uri=http://%s spring.cloud.discovery.client.simple.order=-1 %s", s.Addr(), ours.Outbound, named)
	for _, reference := range []string{"mesh", "simple"} {
		consumer.calls(reference, fmt.Sprint("p", direct))
	}
	through, beside := begin(consumer, "mesh"), begin(consumer, "direct")

	// A provider comes that registers the port of its sidecar.
	theirs := harness.Start(t, harness.Options{App: service, Config: byNacos(s, "",
		fmt.Sprintf("app: {services: [{name: %s, protocol: http, port: %d, registers_itself: true}]}\n", service, meshed))})
	providers.do("export mesh %s %d spring.cloud.nacos.discovery.port=%s", s.Addr(), meshed, port(theirs.Inbound))
	listed(t, s.Addr(), nacosPublic, service, at, theirs.Inbound)
	through.ends("mesh -> direct, and a provider comes that has a sidecar")
	beside.ends("direct -> direct, and a provider comes that has a sidecar")

	// The other one goes: what is left is behind the sidecar alone, for both kinds of consumers.
	through = begin(consumer, "mesh")
	providers.do("unexport direct")
	listed(t, s.Addr(), nacosPublic, service, theirs.Inbound)
	through.ends("mesh -> mesh, and the provider without a sidecar goes")
	for _, reference := range []string{"mesh", "simple", "direct"} {
		consumer.calls(reference, fmt.Sprint("p", meshed))
	}
	if n := consumer.do("entries direct"); n != "1" {
		t.Errorf("the consumer without a sidecar sees %s providers", n)
	}

	// And back, while both kinds of consumers call.
	through, beside = begin(consumer, "mesh"), begin(consumer, "direct")
	providers.do("export direct %s %d", s.Addr(), direct)
	listed(t, s.Addr(), nacosPublic, service, at, theirs.Inbound)
	through.ends("mesh -> mesh, and a provider comes that has no sidecar")
	beside.ends("direct -> mesh, and a provider comes that has no sidecar")

	// As an HTTP proxy: the consumer chooses an instance by itself, and the sidecar another if that one has gone.
	consumer.do("set http.proxyPort %s", port(ours.Outbound))
	consumer.do("set http.proxyHost 127.0.0.1")
	harness.Eventually(t, 30*time.Second, func() error { // it learns of both
		if n := consumer.do("entries direct"); n != "2" {
			return fmt.Errorf("the consumer sees %s providers", n)
		}
		return nil
	})
	before := requests(t, ours, "http")
	through = begin(consumer, "direct")
	providers.do("unexport mesh")
	listed(t, s.Addr(), nacosPublic, service, at)
	calls := through.ends("its sidecar as a proxy -> mesh and direct, and the provider with a sidecar goes")
	if n := requests(t, ours, "http") - before; n < calls {
		t.Errorf("of %d calls %d went through the sidecar", calls, n)
	}
	providers.do("unexport direct")
	listed(t, s.Addr(), nacosPublic, service)
}

// requests is how many requests of a protocol a sidecar has sent out or let in.
func requests(t *testing.T, s *harness.Sidecar, protocol string) (n int) {
	t.Helper()
	for line := range strings.Lines(s.Page("/metrics")) {
		if strings.HasPrefix(line, "outrigger_mesh_request_seconds_count") && strings.Contains(line, fmt.Sprintf("protocol=%q", protocol)) {
			_, value, _ := strings.Cut(line, "} ")
			one, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			n += one
		}
	}
	return n
}
