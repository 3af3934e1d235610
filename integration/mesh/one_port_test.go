package mesh

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// allBed is an application that serves all protocols, with one sidecar, and one that calls it by all of them.
type allBed struct {
	t                  *testing.T
	wires              []wire // each of a service of its own
	apps               []*answering
	streams            *atomic.Int64
	provider, consumer *harness.Sidecar
	tcp                string // where the consumer calls its service of TCP
}

func newAllBed(t *testing.T) *allBed {
	b := &allBed{t: t}
	registry := "registry: {default: {driver: file, options: {dir: " + t.TempDir() + "}}}\n"
	services := ""
	for i := range wires {
		service := "peer." + strings.ToUpper(wires[i].protocol)
		w := wiresOf(service)[i]
		a := w.app(t)
		b.wires, b.apps = append(b.wires, w), append(b.apps, a)
		services += fmt.Sprintf("{name: %s, protocol: %s, port: %d%s}, ", service, w.protocol, a.port, map[string]string{"bolt": ", version: '1.0'"}[w.protocol])
	}
	port, streams := answerTCP(t)
	b.streams, b.tcp = streams, fmt.Sprint("127.0.0.1:", freePort(t))
	b.provider = harness.Start(t, harness.Options{App: "provider", Config: registry + fmt.Sprintf("app: {services: [%s{name: db, protocol: tcp, port: %d}]}\n", services, port)})
	b.consumer = harness.Start(t, harness.Options{App: "consumer", Config: registry + "mesh: {outbound: {tcp: [{service: db, address: '" + b.tcp + "'}]}}\n"})
	for _, w := range b.wires {
		call := w.client(t, b.consumer.Outbound)
		harness.Eventually(t, 30*time.Second, func() error { return call("fine") })
	}
	harness.Eventually(t, 30*time.Second, func() error { return exchange(b.tcp, []byte("x")) })
	return b
}

// counted passes connections on to an address, and counts them.
func counted(t *testing.T, to string) (address string, count *atomic.Int64) {
	count = &atomic.Int64{}
	return fmt.Sprint("127.0.0.1:", harness.Listen(t, func(nc net.Conn) {
		count.Add(1)
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			io.Copy(up, nc)
			up.Close()
		}()
		io.Copy(nc, up)
	})), count
}

// steady are clients of one connection each, of all protocols at both ports, that call all the time. ended has them stop, and tells how many of
// their connections there were more than one each.
func (b *allBed) steady() (l *load, ended func() (more int64)) {
	calls := make(chan func(string) error, 2*len(b.wires))
	var counts []*atomic.Int64
	for _, port := range []string{b.consumer.Outbound, b.provider.Inbound} {
		for _, w := range b.wires {
			address, count := counted(b.t, port)
			call := w.client(b.t, address)
			if err := call("fine"); err != nil {
				b.t.Errorf("%s at %s: %v", w.protocol, port, err)
			}
			counts = append(counts, count)
			calls <- call
		}
	}
	l = begin(b.t, func() error {
		call := <-calls
		defer func() { calls <- call }()
		return errors.Join(call("fine"), exchange(b.tcp, []byte("y")))
	})
	return l, func() (more int64) {
		l.end()
		for _, n := range counts {
			more += n.Load() - 1
		}
		return more
	}
}

// TestOnePortForAll: one inbound and one outbound port serve all protocols at once; a call gets to the port that serves its own.
func TestOnePortForAll(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo tcp, one inbound and one outbound port for all at once")
	b := newAllBed(t)
	l, ended := b.steady()
	for i, w := range b.wires {
		method := w.protocol // which the others are never asked for
		for _, port := range []string{b.consumer.Outbound, b.provider.Inbound} {
			if err := w.client(t, port)(method); err != nil {
				t.Errorf("%s at %s: %v", method, port, err)
			}
		}
		for j, a := range b.apps {
			if n := a.times(method); n != map[bool]int{true: 2}[i == j] {
				t.Errorf("%d calls of %s came where %s is served", n, method, b.wires[j].protocol)
			}
		}
	}
	web := map[string]bool{"http": true, "grpc": true}
	for _, of := range b.wires { // what is published by another protocol is not served by this one, and nobody waits for it
		for _, w := range wiresOf("peer." + strings.ToUpper(of.protocol)) {
			if w.protocol == of.protocol || web[w.protocol] && web[of.protocol] {
				continue
			}
			if err := w.client(t, b.provider.Inbound)("fine"); err == nil || !strings.Contains(err.Error(), "SERVICE_NOT_HERE") {
				t.Errorf("by %s for a service of %s: %v", w.protocol, of.protocol, err)
			}
		}
	}
	before := b.streams.Load()
	if err := exchange(b.tcp, []byte("z")); err != nil || b.streams.Load() <= before {
		t.Errorf("tcp: %v", err)
	}
	l.more(200)
	if n := ended(); n != 0 {
		t.Errorf("%d connections ended", n)
	}
}

// rubbish is what no client of a protocol sends. It is all that is sent; of what is cut off the sender says that it ends.
var rubbish = []struct {
	what, sent  string
	cut, inside bool // inside: for the inbound port only
}{
	{what: "another protocol", sent: "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"},
	{what: "bytes of no protocol", sent: strings.Repeat("\xff\xfe\x80\x03", 64)},
	{what: "TLS that is none", sent: "\x16\x03\x01\xff\xff" + strings.Repeat("\x01", 512)},
	{what: "HTTP with two lengths", sent: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{what: "HTTP with a header that is none", sent: "GET / HTTP/1.1\r\nHost: x\r\nno header\x00\r\n\r\n"},
	{what: "HTTP with too long a head", sent: "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 2<<20) + "\r\n\r\n"},
	{what: "HTTP that is cut off", sent: "POST /fine HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhalf", cut: true},
	{what: "HTTP/2 without frames", sent: http2.ClientPreface + strings.Repeat("GET / HTTP/1.1\r\n\r\n", 20)},
	{what: "HTTP/2 with too long a frame", sent: http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\xff\xff\xff\x00\x00\x00\x00\x00\x01"},
	{what: "HTTP/2 that is cut off", sent: http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x10\x00\x01", cut: true},
	{what: "Bolt with too long a frame", sent: longFrame(boltWire.request(1, "fine"), 18)},
	{what: "Bolt of a command that is none", sent: "\x01\x01\x7f\x7f" + strings.Repeat("\x7f", 200)},
	{what: "Bolt that is cut off", sent: string(boltWire.request(1, "fine")[:40]), cut: true},
	{what: "Dubbo with too long a frame", sent: longFrame(dubboWire.request(1, "fine"), 12)},
	{what: "Dubbo, and then something else", sent: string(dubboWire.request(1, "fine")) + strings.Repeat("GET / HTTP/1.1\r\n\r\n", 20)},
	{what: "Dubbo that is cut off", sent: string(dubboWire.request(1, "fine")[:40]), cut: true},
	{what: "TCP for no service", sent: "\x00tcp/1 nobody/nothing someone\n", inside: true},
	{what: "TCP with a line without end", sent: "\x00tcp/1 " + strings.Repeat("a", 64<<10), inside: true},
}

// longFrame is a frame that claims in four bytes to be as long as can be said.
func longFrame(frame []byte, at int) string {
	b := bytes.Clone(frame)
	binary.BigEndian.PutUint32(b[at:], 1<<31-1)
	return string(b)
}

// refused sends what and waits until the connection is closed.
func refused(address, what string, cut bool) error {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(nc, what) // the sidecar may have closed it before all was sent
	if cut {
		nc.(*net.TCPConn).CloseWrite()
	}
	if got, err := io.ReadAll(nc); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the connection is still open; it was answered %.80q", got)
	}
	return nil
}

// TestRubbishDisturbsNobody: who sends what is none of a protocol loses the connection, at each port; those of others go on, in all protocols.
func TestRubbishDisturbsNobody(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo tcp, garbage, what is too long and what is cut off end their own connection, and no other of any protocol")
	b := newAllBed(t)
	l, ended := b.steady()
	l.more(50)
	for _, r := range rubbish {
		for _, port := range []struct{ name, address string }{{"outbound", b.consumer.Outbound}, {"inbound", b.provider.Inbound}, {"api", b.consumer.GRPC}} {
			if r.inside && port.name != "inbound" {
				continue
			}
			if err := refused(port.address, r.sent, r.cut); err != nil {
				t.Errorf("%s at the port %s: %v", r.what, port.name, err)
			}
		}
		l.more(10)
	}
	if n := ended(); n != 0 {
		t.Errorf("%d connections of others ended", n)
	}
}
