package peers_test

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// board is what stands in ZooKeeper, for anybody to read.
type board struct {
	t    *testing.T
	conn *zk.Conn
	addr string
}

func newBoard(t *testing.T) *board {
	t.Helper()
	s := servers.Run(t, "zookeeper")
	conn, _, err := zk.Connect(s.Addrs(), 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &board{t, conn, s.Addr()}
}

// shows waits until the providers of a folder are those addresses.
func (b *board) shows(folder string, want ...string) {
	b.t.Helper()
	harness.Eventually(b.t, 30*time.Second, func() error {
		names, _, err := b.conn.Children(folder)
		if err != nil && err != zk.ErrNoNode {
			return err
		}
		var got []string
		for _, name := range names {
			text, _ := url.QueryUnescape(name)
			_, rest, _ := strings.Cut(text, "://")
			at, _, _ := strings.Cut(rest, "?")
			at, _, _ = strings.Cut(at, "/")
			got = append(got, at)
		}
		slices.Sort(got)
		slices.Sort(want)
		if strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Errorf("%s has %q, want %q", folder, got, want)
		}
		return nil
	})
}

// owner is the session that the only entry of a folder is of.
func (b *board) owner(folder string) int64 {
	b.t.Helper()
	names, _, err := b.conn.Children(folder)
	if err != nil || len(names) != 1 {
		b.t.Fatalf("%s has %d entries, %v", folder, len(names), err)
	}
	_, stat, err := b.conn.Exists(folder + "/" + names[0])
	if err != nil {
		b.t.Fatal(err)
	}
	return stat.EphemeralOwner
}

func (b *board) sidecar(app string, o harness.Options, mesh string) *harness.Sidecar {
	o.App = app
	o.Config = fmt.Sprintf("registry: {default: {driver: zookeeper, options: {addresses: [%q], session: 4s}}}\nmesh: {registry: default, inbound: {advertise: 127.0.0.1}%s}\ndrain: {propagation: 500ms, quiet: 200ms}\n%s",
		b.addr, mesh, o.Config)
	return harness.Start(b.t, o)
}

// load is calls that go on while something is changed.
type load struct {
	j         *jvm
	reference string
}

func begin(j *jvm, reference string) load {
	j.t.Helper()
	j.do("load %s", reference)
	return load{j, reference}
}

// ends counts the calls, of which none may have failed.
func (l load) ends(what string) int {
	l.j.t.Helper()
	said := l.j.do("stop %s", l.reference)
	var calls, failed int
	fmt.Sscan(said, &calls, &failed)
	if failed != 0 || calls == 0 {
		l.j.t.Errorf("%s: calls, failed: %s", what, said)
	}
	fmt.Printf("matrix: %-62s calls %6d failed %d\n", l.j.name+": "+what, calls, failed)
	return calls
}

// TestMesh: with stock peers, each side direct or through a sidecar, and moving from the one to the other while calls are made.
func TestMesh(t *testing.T) {
	t.Log("feature: http bolt dubbo, either side moves to the mesh under load, and nothing fails")
	t.Run("matrix", matrix)
	t.Run("pages", pages)
}

func matrix(t *testing.T) {
	dir := stock().Prepare(t)
	versions(t, dir)
	b := newBoard(t)
	t.Run("sofarpc", func(t *testing.T) { b.t = t; sofarpc(t, b, dir) })
	t.Run("sofaboot", func(t *testing.T) { b.t = t; sofaboot(t, b, dir) })
	t.Run("dubbo3", func(t *testing.T) { b.t = t; dubbo(t, b, dir, "dubbo3") })
	t.Run("springzk", func(t *testing.T) { b.t = t; springByZookeeper(t, b, dir) })
	t.Run("nacos", func(t *testing.T) { nacos(t, dir) })
	t.Run("dubbo27", func(t *testing.T) { b.t = t; dubbo(t, b, dir, "dubbo27") })
}

// versions prints which libraries the peers are made of, as their files say.
func versions(t *testing.T, dir string) {
	for _, f := range frameworks {
		jars, err := filepath.Glob(filepath.Join(dir, f, "target", "dependency", "*.jar"))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, jar := range jars {
			if name := strings.TrimSuffix(filepath.Base(jar), ".jar"); library.MatchString(name) {
				all = append(all, name)
			}
		}
		if all == nil {
			t.Errorf("%s has no library of its framework", f)
		}
		fmt.Printf("matrix: %s is %s\n", f, strings.Join(all, ", "))
	}
}

var library = regexp.MustCompile(`^(sofa-rpc-all|rpc-sofa-boot|dubbo|spring-boot|spring-cloud-openfeign-core|spring-cloud-alibaba-commons|nacos-client|zookeeper)-[0-9]`)

// sofarpc: the registry mesh on either side; the sidecar's port of calls is the one that SOFARPC does not let be changed.
func sofarpc(t *testing.T, b *board, dir string) {
	const folder = "/sofa-rpc/peer.Hello/providers"
	peers := started(t, dir, "sofa", "p", "q", "c", "r")
	provider, next, consumer, last := peers[0], peers[1], peers[2], peers[3]
	direct, meshed := harness.FreePort(t), harness.FreePort(t)
	provider.do("export direct zookeeper://%s %d", b.addr, direct)
	at := fmt.Sprint("127.0.0.1:", direct)
	b.shows(folder, at)
	consumer.do("refer direct zookeeper://%s", b.addr)
	consumer.calls("direct", fmt.Sprint("p", direct))

	// The consumer moves first.
	ours := b.sidecar("orders", harness.Options{}, ", sofarpc: {control: '127.0.0.2:13330', outbound: '127.0.0.2:12220'}")
	consumer.do("refer mesh mesh://127.0.0.2:13330")
	consumer.calls("mesh", fmt.Sprint("p", direct))
	through, beside := begin(consumer, "mesh"), begin(consumer, "direct")

	// Then a provider that has a sidecar comes.
	theirs := b.sidecar("stock", harness.Options{AppPort: meshed, Protocol: "bolt"}, ", sofarpc: {control: '127.0.0.3:13330', outbound: '127.0.0.3:12220'}")
	next.do("export mesh mesh://127.0.0.3:13330 %d", meshed)
	b.shows(folder, at, theirs.Inbound)
	through.ends("mesh -> direct, and a provider comes that has a sidecar")
	beside.ends("direct -> direct, and a provider comes that has a sidecar")

	// The other one goes: what is left is behind the sidecar alone, for both kinds of consumers.
	provider.quit()
	b.shows(folder, theirs.Inbound)
	consumer.calls("mesh", fmt.Sprint("q", meshed))
	consumer.calls("direct", fmt.Sprint("q", meshed))
	if n := consumer.do("entries direct"); n != "1" {
		t.Errorf("the consumer without a sidecar sees %s providers", n)
	}
	through, beside = begin(consumer, "mesh"), begin(consumer, "direct")
	time.Sleep(time.Second)
	through.ends("mesh -> mesh")
	beside.ends("direct -> mesh")
	invocations(t, consumer, next, fmt.Sprint("q", meshed))

	// A sidecar that is killed announces again what it was asked for once, and nobody else is asked.
	dead := b.owner(folder)
	theirs.Kill()
	began := time.Now()
	again := harness.Start(t, harness.Options{App: "stock", AppPort: meshed, Protocol: "bolt", DataDir: theirs.DataDir, Config: theirs.Options.Config,
		Args: []string{"-inbound-port", port(theirs.Inbound)}})
	ready := time.Now()
	consumer.calls("mesh", fmt.Sprint("q", meshed))
	if since := time.Since(ready); since > 2*time.Second {
		t.Errorf("called again %s after the sidecar was ready", since)
	}
	fmt.Printf("matrix: sofarpc: kill -9 of the provider's sidecar: called again %s after it was started anew\n", time.Since(began).Round(time.Millisecond))
	harness.Eventually(t, 30*time.Second, func() error { // it takes the place of what was left of it, which a consumer sees go and come
		if b.owner(folder) == dead {
			return errors.New("the entry is that of the one that was killed")
		}
		return nil
	})
	b.shows(folder, again.Inbound)
	consumer.calls("direct", fmt.Sprint("q", meshed))

	// And back, while both kinds of consumers call: a provider comes that has no sidecar, and the other one's sidecar ends. It comes again.
	back := harness.FreePort(t)
	through, beside = begin(consumer, "mesh"), begin(consumer, "direct")
	last.do("export direct zookeeper://%s %d", b.addr, back)
	b.shows(folder, again.Inbound, fmt.Sprint("127.0.0.1:", back))
	harness.Eventually(t, 30*time.Second, func() error { // SOFARPC has connected to it, or it would be left with nobody
		if said := consumer.do("call direct x"); said != fmt.Sprint("r", back, ":x") {
			return fmt.Errorf("answered by %s", said)
		}
		return nil
	})
	if code := again.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	b.shows(folder, fmt.Sprint("127.0.0.1:", back))
	through.ends("mesh -> direct, a provider has come that has no sidecar, the sidecar has gone")
	beside.ends("direct -> direct, a provider has come that has no sidecar, the sidecar has gone")
	for _, reference := range []string{"mesh", "direct"} {
		consumer.calls(reference, fmt.Sprint("r", back))
	}
	again = harness.Start(t, again.Options)
	b.shows(folder, again.Inbound, fmt.Sprint("127.0.0.1:", back))
	last.quit()
	b.shows(folder, again.Inbound)
	consumer.calls("mesh", fmt.Sprint("q", meshed))

	// An application that has gone is not announced.
	next.quit()
	b.shows(folder)
	// An instance that is dropped with all others is asked for a while more (mesh.hold), and says itself that it does not serve this.
	if said := consumer.do("callback callback gone"); !refused(said, "framework ") {
		t.Errorf("a callback of a provider that is gone: %s", said)
	}
	if said, err := consumer.try("future future gone"); err == nil || !refused(err.Error(), "") {
		t.Errorf("a future of a provider that is gone: %s, %v", said, err)
	}
	_ = ours
}

// refused tells whether a sidecar says that nobody serves what was called.
func refused(said, prefix string) bool {
	return strings.HasPrefix(said, prefix) && (strings.Contains(said, "NO_INSTANCE") || strings.Contains(said, "no instance") || strings.Contains(said, "SERVICE_NOT_HERE"))
}

// invocations: the other ways in which SOFARPC calls, through both sidecars. who is what the provider answers.
func invocations(t *testing.T, consumer, provider *jvm, who string) {
	t.Helper()
	for _, kind := range []string{"future", "callback", "oneway"} {
		consumer.do("invoke %s", kind)
		consumer.do("refer %s mesh://127.0.0.2:13330", kind)
	}
	for i := range 20 {
		for _, kind := range []string{"future", "callback"} {
			if said := consumer.do("%s %[1]s %d", kind, i); said != fmt.Sprint(who, ":", i) {
				t.Errorf("%s: %s", kind, said)
			}
		}
		if said := consumer.do("call oneway once-%d", i); said != "null" {
			t.Errorf("a one-way call was answered: %s", said)
		}
	}
	if said := consumer.do("callback callback fail"); said != "application no fail" {
		t.Errorf("a callback of a call that throws: %s", said)
	}
	if said, err := consumer.try("future future fail"); err == nil || !strings.Contains(err.Error(), "no fail") {
		t.Errorf("a future of a call that throws: %s, %v", said, err)
	}
	for i := range 20 {
		harness.Eventually(t, 30*time.Second, func() error {
			if n := provider.do("heard once-%d", i); n != "1" {
				return fmt.Errorf("one-way call %d came %s times", i, n)
			}
			return nil
		})
	}
	fmt.Printf("matrix: %-62s calls %6d failed 0\n", consumer.name+": mesh -> mesh, future, callback and one-way", 3*20)
}

func port(address string) string {
	_, p, _ := strings.Cut(address, ":")
	return p
}

// dubbo: 3.3 registers its sidecar's port by a setting, for 2.7 the sidecar registers; a url leads a consumer to its own.
func dubbo(t *testing.T, b *board, dir, framework string) {
	const folder = "/dubbo/peer.Hello/providers"
	peers := started(t, dir, framework, "p", "q", "c", "r")
	provider, next, consumer, last := peers[0], peers[1], peers[2], peers[3]
	for _, p := range peers {
		p.do("set dubbo.application.register-mode interface")
	}
	direct, meshed := harness.FreePort(t), harness.FreePort(t)
	provider.do("export direct zookeeper://%s %d", b.addr, direct)
	at := fmt.Sprint("127.0.0.1:", direct)
	b.shows(folder, at)
	consumer.do("refer direct zookeeper://%s", b.addr)
	consumer.calls("direct", fmt.Sprint("p", direct))

	ours := b.sidecar("orders", harness.Options{}, "")
	consumer.do("refer mesh zookeeper://%s dubbo://%s", b.addr, ours.Outbound)
	consumer.calls("mesh", fmt.Sprint("p", direct))
	through, beside := begin(consumer, "mesh"), begin(consumer, "direct")

	itself := framework == "dubbo3"
	theirs := b.sidecar("stock", harness.Options{Config: fmt.Sprintf("app: {services: [{name: peer.Hello, protocol: dubbo, port: %d, registers_itself: %t}]}\n", meshed, itself)}, "")
	if itself {
		next.do("set DUBBO_PORT_TO_REGISTRY %s", port(theirs.Inbound))
		next.do("export mesh zookeeper://%s %d", b.addr, meshed)
	} else {
		next.do("export mesh N/A %d", meshed)
	}
	b.shows(folder, at, theirs.Inbound)
	through.ends("mesh -> direct, and a provider comes that has a sidecar")
	beside.ends("direct -> direct, and a provider comes that has a sidecar")

	provider.quit()
	b.shows(folder, theirs.Inbound)
	consumer.calls("mesh", fmt.Sprint("q", meshed))
	consumer.calls("direct", fmt.Sprint("q", meshed))
	through, beside = begin(consumer, "mesh"), begin(consumer, "direct")
	time.Sleep(time.Second)
	through.ends("mesh -> mesh")
	beside.ends("direct -> mesh")

	// And back: a provider comes that has no sidecar while both kinds of consumers call, then the other one goes.
	back := harness.FreePort(t)
	through, beside = begin(consumer, "mesh"), begin(consumer, "direct")
	last.do("export direct zookeeper://%s %d", b.addr, back)
	b.shows(folder, theirs.Inbound, fmt.Sprint("127.0.0.1:", back))
	through.ends("mesh -> mesh, and a provider comes that has no sidecar")
	beside.ends("direct -> mesh, and a provider comes that has no sidecar")
	next.quit()
	b.shows(folder, fmt.Sprint("127.0.0.1:", back))
	for _, reference := range []string{"mesh", "direct"} {
		consumer.calls(reference, fmt.Sprint("r", back))
	}
	last.quit()
	b.shows(folder)
}
