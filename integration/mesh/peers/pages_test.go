package peers_test

import (
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/page"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// pages: what is written for those who bring a stock application is done to the letter: sidecars with the pages' configurations, on the ports that
// they have by default, and applications with the pages' settings. The address of the registry alone is that of the one which runs here.
func pages(t *testing.T) {
	dir := stock().Prepare(t)
	b := newBoard(t)
	t.Run("sofarpc", func(t *testing.T) { b.t = t; sofarpcPage(t, b, dir) })
	const dubbo3, dubbo27 = "A provider of Dubbo 3", "A provider of Dubbo 2.7"
	t.Run("dubbo3", func(t *testing.T) { b.t = t; dubboPage(t, b, dir, "dubbo3", dubbo3, dubbo27) })
	t.Run("dubbo27", func(t *testing.T) { b.t = t; dubboPage(t, b, dir, "dubbo27", dubbo27, dubbo3) })
	t.Run("spring-cloud", func(t *testing.T) { springPage(t, servers.Run(t, "nacos"), dir) })
}

const (
	pageZooKeeper, pageNacos      = "127.0.0.1:2181", "127.0.0.1:8848"
	pageInbound, pageOutbound     = "127.0.0.1:7080", "127.0.0.1:7090"
	pageProvider, pageConsumer    = "A provider", "A consumer"
	sofaProviders, dubboProviders = "/sofa-rpc/peer.Hello/providers", "/dubbo/peer.Hello/providers"
)

// besideProvider is a sidecar with a page's configuration, on the inbound port that pages speak of.
func besideProvider(t *testing.T, config string) *harness.Sidecar {
	t.Helper()
	return harness.Start(t, harness.Options{Config: config, Args: []string{"-inbound-port", port(pageInbound)}})
}

// besideConsumer is one on the outbound port that pages speak of.
func besideConsumer(t *testing.T, config string) *harness.Sidecar {
	t.Helper()
	return harness.Start(t, harness.Options{Config: config, Args: []string{"-outbound-port", port(pageOutbound)}})
}

// through has a reference call, and makes sure that the consumer's sidecar had a part in it.
func through(t *testing.T, ours *harness.Sidecar, protocol string, consumer *jvm, reference, want string) {
	t.Helper()
	before := requests(t, ours, protocol)
	consumer.calls(reference, want)
	if requests(t, ours, protocol) == before {
		t.Errorf("%s calls by %s, but not through its sidecar", consumer.name, reference)
	}
}

func sofarpcPage(t *testing.T, b *board, dir string) {
	p := page.Open(t, "docs/mesh/sofarpc.md", "yaml", "properties")
	zk := []string{pageZooKeeper, b.addr}
	peers, boots := started(t, dir, "sofa", "q", "c"), started(t, dir, "sofaboot", "p", "v")
	next, consumer, provider, virtual := peers[0], peers[1], boots[0], boots[1]

	theirs := besideProvider(t, p.Take(pageProvider, "yaml", zk...))
	registry := p.Setting(pageProvider).Value
	provider.do("export mesh %s 12200", registry) // SOFABoot takes it as that setting
	b.shows(sofaProviders, pageInbound)

	ours := besideConsumer(t, p.Take(pageConsumer, "yaml", zk...))
	consumer.do("refer mesh %s", p.Setting(pageConsumer).Value)
	consumer.do("refer direct none %s", p.Says("bolt://"+pageOutbound))
	for _, reference := range []string{"mesh", "direct"} {
		through(t, ours, "bolt", consumer, reference, "p12200")
	}

	// Where the sidecar's configuration publishes, it may start after the application.
	provider.quit()
	theirs.Stop()
	b.shows(sofaProviders)
	next.do("export mesh %s 12200", registry)
	theirs = besideProvider(t, p.Take(pageProvider, "yaml", zk...))
	b.shows(sofaProviders, pageInbound)
	through(t, ours, "bolt", consumer, "mesh", "q12200")
	next.quit()
	theirs.Stop()
	b.shows(sofaProviders)

	// It registers by itself, by its sidecar's port.
	theirs = besideProvider(t, p.Take(pageProvider, "yaml", zk...))
	var settings []string
	for _, s := range p.Settings(pageProvider) {
		settings = append(settings, s.String())
	}
	virtual.do("export virtual zookeeper://%s 12200 %s", b.addr, strings.Join(settings, " "))
	b.shows(sofaProviders, pageInbound)
	through(t, ours, "bolt", consumer, "mesh", "v12200")
	virtual.quit()
	b.shows(sofaProviders)
}

// dubboPage follows the part on one kind of provider, and that on consumers with the same version of Dubbo. The other part has a test of its own.
func dubboPage(t *testing.T, b *board, dir, framework, provider, other string) {
	p := page.Open(t, "docs/mesh/dubbo.md", "yaml", "properties")
	zk := []string{pageZooKeeper, b.addr}
	peers := started(t, dir, framework, "p", "c", "d")
	theirs := besideProvider(t, p.Take(provider, "yaml", zk...))
	setting := p.Setting(provider)
	peers[0].do("set %s %s", setting.Key, setting.Value)
	if framework == "dubbo27" { // the version and the group that stand on the page
		for i, role := range []string{"service", "reference", "reference"} {
			peers[i].do("set dubbo.%s.peer.Hello.version 1.0.0", role)
			peers[i].do("set dubbo.%s.peer.Hello.group blue", role)
		}
	}
	registry := "zookeeper://" + b.addr
	if setting.Key == "dubbo.registry.address" {
		registry = "-"
	}
	peers[0].do("export mesh %s 20880", registry)
	b.shows(dubboProviders, pageInbound)

	ours := besideConsumer(t, p.Take(pageConsumer, "yaml", zk...))
	for _, consumer := range peers[1:] { // by the one setting and by the other
		setting := p.Setting(pageConsumer)
		consumer.do("set %s %s", setting.Key, setting.Value)
		consumer.do("refer mesh zookeeper://%s", b.addr)
		through(t, ours, "dubbo", consumer, "mesh", "p20880")
	}
	peers[0].quit()
	theirs.Stop()
	b.shows(dubboProviders)
	p.Leave(other)
}

func springPage(t *testing.T, s *servers.Server, dir string) {
	p := page.Open(t, "docs/mesh/spring-cloud.md", "yaml", "properties", "text")
	nacos := []string{pageNacos, s.Addr()}
	peers := started(t, dir, "spring", "p", "c")
	providers, consumer := peers[0], peers[1]
	given := func(under string) string {
		var all []string
		for _, setting := range p.Settings(under) {
			all = append(all, setting.String())
		}
		return strings.Join(all, " ")
	}

	// The sidecar registers.
	theirs := besideProvider(t, p.Take(pageProvider, "yaml", nacos...))
	registers := given(pageProvider)
	harness.Eventually(t, time.Minute, func() error { // Nacos takes requests before it takes instances
		_, err := providers.try("export first %s 8080 %s", s.Addr(), registers)
		return err
	})
	listed(t, s.Addr(), nacosPublic, "stock", pageInbound)

	ours := besideConsumer(t, p.Take(pageConsumer, "yaml", nacos...))
	for _, way := range []string{"url", "simple"} {
		consumer.do("refer %s %s %s", way, s.Addr(), given(pageConsumer))
		through(t, ours, "http", consumer, way, "p8080")
	}

	// The application registers its sidecar's port.
	providers.do("unexport first")
	theirs.Stop()
	listed(t, s.Addr(), nacosPublic, "stock")
	besideProvider(t, p.Take(pageProvider, "yaml", nacos...))
	providers.do("export second %s 8080 %s", s.Addr(), given(pageProvider))
	listed(t, s.Addr(), nacosPublic, "stock", pageInbound)
	through(t, ours, "http", consumer, "url", "p8080")

	consumer.do("refer proxy %s", s.Addr())
	for _, option := range strings.Fields(p.Take(pageConsumer, "text")) {
		key, value, _ := strings.Cut(strings.TrimPrefix(option, "-D"), "=")
		if value != "" { // the peers are started with the one that is empty
			consumer.do("set %s %s", key, value)
		}
	}
	through(t, ours, "http", consumer, "proxy", "p8080")
}
