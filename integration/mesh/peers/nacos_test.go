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

// nacos: providers and consumers with and without a sidecar find each other in Nacos, and move both ways while calls are made.
func nacos(t *testing.T, dir string) {
	s := servers.Run(t, "nacos")
	for _, c := range []nacosCase{
		{"sofa", "peer.Hello:1.0", "sofa-rpc", "peer.Hello:DEFAULT"},
		{"dubbo3", "peer.Hello", nacosPublic, "providers:peer.Hello::"},
		{"dubbo27", "peer.Hello", nacosPublic, "providers:peer.Hello::"},
	} {
		t.Run(c.framework, func(t *testing.T) { c.run(t, s, dir) })
	}
	t.Run("spring", func(t *testing.T) { spring(t, s, dir) })
}

// nacosCase is a framework, the service that it calls, and where Nacos has that.
type nacosCase struct{ framework, service, namespace, listed string }

func (c *nacosCase) run(t *testing.T, s *servers.Server, dir string) {
	peers := started(t, dir, c.framework, "p", "q", "c", "r", "s", "d")
	provider, next, consumer, last, again, late := peers[0], peers[1], peers[2], peers[3], peers[4], peers[5]
	if c.framework == "dubbo3" {
		for _, p := range peers {
			p.do("set dubbo.application.register-mode interface")
		}
	}
	protocol := protocols[c.framework]
	shows := func(want ...string) { t.Helper(); listed(t, s.Addr(), c.namespace, c.listed, want...) }
	alone := func(j *jvm) (at string) { // it serves without a sidecar
		t.Helper()
		serves := harness.FreePort(t)
		harness.Eventually(t, 30*time.Second, func() error { // Nacos takes requests before it takes instances
			_, err := j.try("export direct nacos://%s %d", s.Addr(), serves)
			return err
		})
		return fmt.Sprint("127.0.0.1:", serves)
	}
	beside := func(j *jvm) (theirs *harness.Sidecar, serves int) { // it serves beside one
		t.Helper()
		serves = harness.FreePort(t)
		j.do("export mesh %s %d", none(c.framework), serves)
		return harness.Start(t, harness.Options{App: "stock", Config: byNacos(s, "", fmt.Sprintf("app: {services: [{name: %q, protocol: %s, port: %d}]}\n", c.service, protocol, serves))}), serves
	}
	goes := func(j, consumer *jvm, left string) { // as one that is to lose no call
		t.Helper()
		if c.framework == "sofa" {
			retires(j, consumer, func() { j.do("retire direct"); shows(left) })
			return
		}
		j.do("unexport direct") // serves for a while more
		shows(left)
		consumer.sees("direct", 1)
	}
	at := alone(provider)
	shows(at)
	ours := harness.Start(t, harness.Options{App: "orders", Config: byNacos(s, "", "")})
	meshed := func(j *jvm) { t.Helper(); j.do("refer mesh %s %s://%s", none(c.framework), protocol, ours.Outbound) }

	// The consumer moves first, then its provider.
	consumer.do("refer direct nacos://%s", s.Addr())
	consumer.calls("direct", "p"+port(at))
	direct := begin(consumerFirst, consumer, "direct")
	meshed(consumer)
	consumer.calls("mesh", "p"+port(at))
	direct.ends("direct -> direct", "the consumer gets a sidecar, by Nacos")
	through, direct := begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	theirs, serves := beside(next)
	shows(at, theirs.Inbound)
	consumer.sees("direct", 2)
	goes(provider, consumer, theirs.Inbound)
	through.ends("mesh -> direct", "a provider comes that has a sidecar, the one without goes, by Nacos")
	direct.ends("direct -> direct", "a provider comes that has a sidecar, the one without goes, by Nacos")
	for _, reference := range []string{"mesh", "direct"} {
		consumer.calls(reference, fmt.Sprint("q", serves))
	}

	// And back, while both kinds of consumers call.
	through, direct = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	back := alone(last)
	shows(theirs.Inbound, back)
	consumer.sees("direct", 2)
	consumer.reaches("direct", "r"+port(back)) // connected to it, or it would be left with nobody
	if code := theirs.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	shows(back)
	consumer.sees("direct", 1)
	through.ends("mesh -> mesh", "a provider comes that has no sidecar, the one with one goes, by Nacos")
	direct.ends("direct -> mesh", "a provider comes that has no sidecar, the one with one goes, by Nacos")
	for _, reference := range []string{"mesh", "direct"} {
		consumer.calls(reference, "r"+port(back))
	}

	// Now the provider moves first, and a consumer follows that has known none with a sidecar.
	late.do("refer direct nacos://%s", s.Addr())
	late.calls("direct", "r"+port(back))
	direct = begin(providerFirst, late, "direct")
	theirs, serves = beside(again)
	shows(theirs.Inbound, back)
	late.sees("direct", 2)
	goes(last, late, theirs.Inbound)
	direct.ends("direct -> direct", "a provider comes that has a sidecar, the one without goes, by Nacos")
	late.calls("direct", fmt.Sprint("s", serves))
	direct = begin(providerFirst, late, "direct")
	meshed(late)
	late.calls("mesh", fmt.Sprint("s", serves))
	through = begin(providerFirst, late, "mesh")
	through.more()
	direct.ends("direct -> mesh", "the consumer gets a sidecar, by Nacos")
	through.ends("mesh -> mesh", "as it is, by Nacos")
	again.quit()
	shows()
}
