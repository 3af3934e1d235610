package mesh

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// TestEverySocketIsConfigured: a sidecar with listeners of each kind listens where its configuration says, on loopback, and nowhere else; nothing that is
// linked into it opens a port of its own.
func TestEverySocketIsConfigured(t *testing.T) {
	const host = "127.33.0.9"
	tcp, control := fmt.Sprint("127.0.0.1:", freePort(t)), freePort(t)
	s := harness.Start(t, harness.Options{App: "provider", Config: "registry: {default: {driver: file, options: {dir: " + t.TempDir() + "}}}\n" + fmt.Sprintf(
		"app: {services: [{name: db, protocol: tcp, port: 1}, {name: 'peer.Hello:1.0', protocol: bolt, port: 2}]}\nmesh: {sofarpc: {control: '%s:%d', outbound: '%[1]s:12220'}, outbound: {tcp: [{service: other, address: '%[3]s'}]}}\n",
		host, control, tcp)})
	want := []string{s.GRPC, s.HTTP, s.Outbound, s.Inbound, s.Admin, tcp, fmt.Sprint(host, ":", control), host + ":12220"}
	slices.Sort(want)
	if got := sockets(t, s.PID(), "tcp"); !slices.Equal(got, want) {
		t.Errorf("it listens at %q, want %q", got, want)
	}
	if got := sockets(t, s.PID(), "udp"); len(got) > 0 {
		t.Errorf("it has sockets of UDP: %q", got)
	}
}

// sockets are the addresses of a process's sockets that listen, or of all where the protocol knows no such thing.
func sockets(t *testing.T, pid int, protocol string) (all []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	own := map[string]bool{}
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil {
			own[to] = true
		}
	}
	for _, table := range []string{protocol, protocol + "6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		const at, state, inode, listens = 1, 3, 9, "0A"
		for line := range strings.Lines(string(text)) {
			if c := strings.Fields(line); len(c) > inode && own["socket:["+c[inode]+"]"] && (c[state] == listens || protocol != "tcp") {
				all = append(all, address(t, c[at]))
			}
		}
	}
	slices.Sort(all)
	return all
}

// address reads IP:PORT as those tables have it: words of four bytes in the machine's order, and the port.
func address(t *testing.T, text string) string {
	t.Helper()
	words, port, _ := strings.Cut(text, ":")
	ip, err := hex.DecodeString(words)
	number, err2 := hex.DecodeString(port)
	if err != nil || err2 != nil {
		t.Fatalf("%q: %v, %v", text, err, err2)
	}
	for i := 0; i+4 <= len(ip); i += 4 {
		binary.NativeEndian.PutUint32(ip[i:], binary.BigEndian.Uint32(ip[i:]))
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		t.Fatal(text)
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(number)).String()
}
