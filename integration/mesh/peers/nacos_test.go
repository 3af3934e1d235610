package peers_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// listed waits until Nacos has those addresses of a service, and no others.
func listed(t *testing.T, at, namespace, service string, want ...string) {
	t.Helper()
	slices.Sort(want)
	harness.Eventually(t, 30*time.Second, func() error {
		resp, err := http.Get("http://" + at + "/nacos/v1/ns/instance/list?groupName=DEFAULT_GROUP&serviceName=" + url.QueryEscape(service) + "&namespaceId=" + namespace)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var list struct {
			Hosts []struct {
				IP   string
				Port int
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
			return err
		}
		var got []string
		for _, h := range list.Hosts {
			got = append(got, fmt.Sprint(h.IP, ":", h.Port))
		}
		slices.Sort(got)
		if strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Errorf("%s has %q, want %q", service, got, want)
		}
		return nil
	})
}

// nacosPublic is the namespace that Nacos has of its own.
const nacosPublic = "public"

// byNacos is the configuration of a sidecar whose registry is Nacos.
func byNacos(s *servers.Server, mesh, more string) string {
	return fmt.Sprintf("registry: {default: {driver: nacos, options: {nacos: {addresses: [%q]}}}}\nmesh: {registry: default, inbound: {advertise: 127.0.0.1}%s}\ndrain: {propagation: 500ms, quiet: 200ms}\n%s", s.Addr(), mesh, more)
}

// nacos: providers and consumers with and without a sidecar find each other in Nacos.
func nacos(t *testing.T, dir string) {
	s := servers.Run(t, "nacos")
	for _, c := range []struct{ framework, service, protocol, namespace, listed, direct string }{
		{"sofa", "peer.Hello:1.0", "bolt", "sofa-rpc", "peer.Hello:DEFAULT", "bolt"},
		{"dubbo3", "peer.Hello", "dubbo", nacosPublic, "providers:peer.Hello::", "dubbo"},
	} {
		t.Run(c.framework, func(t *testing.T) {
			peers := started(t, dir, c.framework, "p", "q", "c")
			provider, next, consumer := peers[0], peers[1], peers[2]
			for _, p := range peers {
				if c.framework != "sofa" {
					p.do("set dubbo.application.register-mode interface")
				}
			}
			direct, meshed := harness.FreePort(t), harness.FreePort(t)
			harness.Eventually(t, 30*time.Second, func() error { // Nacos takes requests before it takes instances
				_, err := provider.try("export direct nacos://%s %d", s.Addr(), direct)
				return err
			})
			listed(t, s.Addr(), c.namespace, c.listed, fmt.Sprint("127.0.0.1:", direct))
			ours := harness.Start(t, harness.Options{App: "orders", Config: byNacos(s, "", "")})
			none := "N/A"
			if c.framework == "sofa" {
				none = "none"
			}
			consumer.do("refer direct nacos://%s", s.Addr())
			consumer.do("refer mesh %s %s://%s", none, c.direct, ours.Outbound)
			consumer.calls("direct", fmt.Sprint("p", direct))
			consumer.calls("mesh", fmt.Sprint("p", direct))
			through, beside := begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
			next.do("export mesh %s %d", none, meshed)
			theirs := harness.Start(t, harness.Options{App: "stock", Config: byNacos(s, "", fmt.Sprintf("app: {services: [{name: %q, protocol: %s, port: %d}]}\n", c.service, c.protocol, meshed))})
			listed(t, s.Addr(), c.namespace, c.listed, fmt.Sprint("127.0.0.1:", direct), theirs.Inbound)
			consumer.sees("direct", 2)
			through.ends("mesh -> direct", "a provider comes that has a sidecar, by Nacos")
			beside.ends("direct -> direct", "a provider comes that has a sidecar, by Nacos")
			provider.quit()
			listed(t, s.Addr(), c.namespace, c.listed, theirs.Inbound)
			consumer.calls("direct", fmt.Sprint("q", meshed))
			consumer.calls("mesh", fmt.Sprint("q", meshed))
			consumer.sees("direct", 1)
			through, beside = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
			through.more()
			through.ends("mesh -> mesh", "as it is, by Nacos")
			beside.ends("direct -> mesh", "as it is, by Nacos")
			next.quit()
			listed(t, s.Addr(), c.namespace, c.listed)
		})
	}
	t.Run("spring", func(t *testing.T) { spring(t, s, dir) })
}
