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
	through, beside := begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")

	// A provider comes that registers the port of its sidecar.
	theirs := harness.Start(t, harness.Options{App: service, Config: byNacos(s, "",
		fmt.Sprintf("app: {services: [{name: %s, protocol: http, port: %d, registers_itself: true}]}\n", service, meshed))})
	providers.do("export mesh %s %d spring.cloud.nacos.discovery.port=%s", s.Addr(), meshed, port(theirs.Inbound))
	listed(t, s.Addr(), nacosPublic, service, at, theirs.Inbound)
	through.ends("mesh -> direct", "a provider comes that has a sidecar")
	beside.ends("direct -> direct", "a provider comes that has a sidecar")

	// The other one goes: what is left is behind the sidecar alone, for both kinds of consumers.
	leave := func(name, left string) { // as Spring Cloud's applications do that are to lose no call: out of the registry, and closed when all have heard
		t.Helper()
		providers.do("retire %s", name)
		listed(t, s.Addr(), nacosPublic, service, left)
		consumer.sees("direct", 1)
		providers.do("unexport %s", name)
	}
	through, beside = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	leave("direct", theirs.Inbound)
	through.ends("mesh -> both", "the provider without a sidecar goes")
	beside.ends("direct -> both", "the provider without a sidecar goes")
	for _, reference := range []string{"mesh", "simple", "direct"} {
		consumer.calls(reference, fmt.Sprint("p", meshed))
	}
	consumer.sees("direct", 1)

	// And back, while both kinds of consumers call.
	through, beside = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	providers.do("export direct %s %d", s.Addr(), direct)
	listed(t, s.Addr(), nacosPublic, service, at, theirs.Inbound)
	through.ends("mesh -> mesh", "a provider comes that has no sidecar")
	beside.ends("direct -> mesh", "a provider comes that has no sidecar")

	through, beside = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	leave("mesh", at)
	through.ends("mesh -> both", "the provider with a sidecar goes")
	beside.ends("direct -> both", "the provider with a sidecar goes")

	// Now the provider moves first, and a consumer follows that has known none with a sidecar.
	consumer.do("refer late %s", s.Addr())
	consumer.calls("late", fmt.Sprint("p", direct))
	beside = begin(providerFirst, consumer, "late")
	providers.do("export mesh %s %d spring.cloud.nacos.discovery.port=%s", s.Addr(), meshed, port(theirs.Inbound))
	listed(t, s.Addr(), nacosPublic, service, at, theirs.Inbound)
	leave("direct", theirs.Inbound)
	beside.ends("direct -> direct", "a provider comes that has a sidecar, the one without goes")
	consumer.calls("late", fmt.Sprint("p", meshed))
	consumer.sees("late", 1)
	beside = begin(providerFirst, consumer, "late")
	consumer.do("refer late-mesh %s spring.cloud.openfeign.client.config.stock.url=http://%s %s", s.Addr(), ours.Outbound, named)
	consumer.calls("late-mesh", fmt.Sprint("p", meshed))
	through = begin(providerFirst, consumer, "late-mesh")
	through.more()
	beside.ends("direct -> mesh", "the consumer gets a sidecar")
	through.ends("mesh -> mesh", "as it is")
	providers.do("export direct %s %d", s.Addr(), direct)
	listed(t, s.Addr(), nacosPublic, service, at, theirs.Inbound)

	// As an HTTP proxy: the consumer chooses an instance by itself, and the sidecar another if that one has gone.
	consumer.do("set http.proxyPort %s", port(ours.Outbound))
	consumer.do("set http.proxyHost 127.0.0.1")
	consumer.sees("direct", 2) // it learns of both
	before := requests(t, ours, "http")
	through = begin(consumerFirst, consumer, "direct")
	providers.do("unexport mesh")
	listed(t, s.Addr(), nacosPublic, service, at)
	calls := through.ends("mesh -> both", "by its sidecar as a proxy, and the provider with a sidecar goes")
	if n := requests(t, ours, "http") - before; n < calls {
		t.Errorf("of %d calls %d went through the sidecar", calls, n)
	}
	providers.do("unexport direct")
	listed(t, s.Addr(), nacosPublic, service)
	if said, err := consumer.try("call mesh gone"); err == nil || !refused(err.Error(), "") {
		t.Errorf("a call when all providers are gone: %s, %v", said, err)
	}
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
