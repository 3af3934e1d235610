package peers_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// site is a server of HTTP as it comes with Python, whose file /who has its name.
type site struct {
	at   string // HOST:PORT
	port int
	cmd  *exec.Cmd
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	dir, port := t.TempDir(), harness.FreePort(t)
	if err := os.WriteFile(filepath.Join(dir, "who"), []byte(name), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &site{at: fmt.Sprint("127.0.0.1:", port), port: port, cmd: exec.Command("python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", dir, fmt.Sprint(port))}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	return s
}

func (s *site) end() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

const plainFolder = "/services/plain"

// lists writes an instance without a sidecar down, as whoever deploys it would.
func (b *board) lists(s *site) {
	b.t.Helper()
	for _, folder := range []string{"/services", plainFolder} {
		if _, err := b.conn.Create(folder, nil, 0, zk.WorldACL(zk.PermAll)); err != nil && err != zk.ErrNodeExists {
			b.t.Fatal(err)
		}
	}
	data := fmt.Appendf(nil, `{"name":"plain","id":"%d","address":"127.0.0.1","port":%[1]d}`, s.port)
	if _, err := b.conn.Create(fmt.Sprint(plainFolder, "/", s.port), data, 0, zk.WorldACL(zk.PermAll)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *board) strikes(s *site) {
	b.t.Helper()
	if err := b.conn.Delete(fmt.Sprint(plainFolder, "/", s.port), -1); err != nil {
		b.t.Fatal(err)
	}
}

// plainHTTP: servers and clients that know of no registry. One without a sidecar is asked by its address, and through sidecars by the name of the service.
func plainHTTP(t *testing.T, b *board) {
	peers := run(t, "plain", func(string) *exec.Cmd {
		return exec.Command("python3", filepath.Join(harness.Root(), "integration/mesh/peers/http/peer.py"))
	}, "c", "d")
	consumer, late := peers[0], peers[1]
	p, q, r := newSite(t, "p"), newSite(t, "q"), newSite(t, "r")
	url := func(at string) string { return "http://" + at + "/who" }
	b.lists(p)
	consumer.do("refer direct %s", url(p.at))
	consumer.calls("direct", "p")

	// The consumer moves first: the sidecar is its proxy.
	beside := begin(consumerFirst, consumer, "direct")
	ours := b.sidecar("orders", harness.Options{}, "")
	consumer.do("refer mesh %s %s", url("plain"), ours.Outbound)
	consumer.calls("mesh", "p")
	beside.ends("direct -> direct", "the consumer gets a sidecar")

	// The provider follows: one comes that has a sidecar, and the other one goes.
	through := begin(consumerFirst, consumer, "mesh")
	theirs := b.sidecar("plain", harness.Options{AppPort: q.port, Protocol: "http"}, "")
	b.has(plainFolder, p.at, theirs.Inbound)
	b.strikes(p)
	consumer.calls("mesh", "q")
	p.end()
	through.ends("mesh -> direct", "a provider comes that has a sidecar, the one without goes")
	consumer.do("refer direct %s", url(theirs.Inbound))
	consumer.calls("direct", "q")

	// And back.
	through, beside = begin(consumerFirst, consumer, "mesh"), begin(consumerFirst, consumer, "direct")
	b.lists(r)
	b.has(plainFolder, r.at, theirs.Inbound)
	beside.ends("direct -> mesh", "a provider comes that has no sidecar")
	if code := theirs.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	consumer.calls("mesh", "r")
	through.ends("mesh -> mesh", "a provider comes that has no sidecar, the sidecar goes")

	// Now the provider moves first, behind whose sidecar it has another address, and then the consumer.
	late.do("refer direct %s", url(r.at))
	late.calls("direct", "r")
	beside = begin(providerFirst, late, "direct")
	theirs = b.sidecar("plain", harness.Options{AppPort: r.port, Protocol: "http"}, "")
	b.has(plainFolder, r.at, theirs.Inbound)
	beside.ends("direct -> direct", "the provider gets a sidecar")
	b.strikes(r)
	late.do("refer direct %s", url(theirs.Inbound))
	late.calls("direct", "r")
	beside = begin(providerFirst, late, "direct")
	late.do("refer mesh %s %s", url("plain"), ours.Outbound)
	late.calls("mesh", "r")
	through = begin(providerFirst, late, "mesh")
	beside.ends("direct -> mesh", "the consumer gets a sidecar")
	late.calls("mesh", "r")
	through.ends("mesh -> mesh", "as it is")
	theirs.Stop()
	b.has(plainFolder)
}
