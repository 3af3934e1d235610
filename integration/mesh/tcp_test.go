package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

const tcpGreeting = "who is there?\n"

// answerTCP is an application that speaks first, and sends back what it gets. It counts its connections.
func answerTCP(t *testing.T) (port int, count *atomic.Int64) {
	count = &atomic.Int64{}
	return harness.Listen(t, func(nc net.Conn) {
		io.WriteString(nc, tcpGreeting)
		if n, _ := io.Copy(nc, nc); n > 0 { // the sidecar looks whether the port answers, and says nothing
			count.Add(1)
		}
	}), count
}

// exchange sends what, and waits until it has all come back and the other side has ended. Of nothing not even the end is said: a write would
// take the reset that the read is to see.
func exchange(address string, what []byte) error {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	if what != nil {
		go func() {
			if _, err := nc.Write(what); err == nil {
				nc.(*net.TCPConn).CloseWrite()
			}
		}()
	}
	got, err := io.ReadAll(nc)
	if err == nil && !bytes.Equal(got, append([]byte(tcpGreeting), what...)) {
		err = fmt.Errorf("%d bytes came back, %.40q", len(got), got)
	}
	return err
}

// TestTCPServices: connections to a service of TCP pass through both sidecars by mutual TLS, to instances that are there, and to nothing that was
// published by another protocol.
func TestTCPServices(t *testing.T) {
	t.Log("feature: tcp, mutual TLS between sidecars; the certificate says who calls")
	t.Log("feature: tcp, an unknown service and no instance: the connection is reset within 100 ms")
	b := &secured{t: t, ca: newAuthority(t), dir: t.TempDir()}
	certified := func(app, mesh, more string) *harness.Sidecar {
		folder := t.TempDir()
		b.ca.issue(folder, app)
		return b.sidecar(harness.Options{App: app}, b.ca.config("strict", folder)+mesh, more+"telemetry: {access_log: stdout}\n")
	}
	var counts []*atomic.Int64
	var providers []*harness.Sidecar
	for range 2 {
		port, count := answerTCP(t)
		counts = append(counts, count)
		providers = append(providers, certified("provider", "", fmt.Sprintf("app: {services: [{name: db, protocol: tcp, port: %d}, {name: page, protocol: http, port: %[1]d}]}\ndrain: {propagation: 500ms, quiet: 200ms, max: 5s}\n", port)))
	}
	db, page, none := freePort(t), freePort(t), freePort(t)
	consumer := certified("consumer", fmt.Sprintf(", outbound: {tcp: [{service: db, address: '127.0.0.1:%d'}, {service: default/page, address: '127.0.0.1:%d'}, {service: nobody, address: '127.0.0.1:%d'}]}", db, page, none), "")
	at := fmt.Sprint("127.0.0.1:", db)
	harness.Eventually(t, 30*time.Second, func() error {
		err := exchange(at, []byte("x"))
		if n := instancesOf(consumer); err == nil && n != 2 {
			return fmt.Errorf("%d instances", n)
		}
		return err
	})
	much := bytes.Repeat([]byte("0123456789abcdef"), 256<<10)
	for range 20 {
		if err := exchange(at, much); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range counts {
		if c.Load() == 0 {
			t.Errorf("instance %d has had no connection", i)
		}
	}
	for what, port := range map[string]int{"nobody has published it": none, "it is published by another protocol": page} {
		best := time.Minute
		for range errorTries {
			began := time.Now()
			if err := exchange(fmt.Sprint("127.0.0.1:", port), nil); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("%s: %v", what, err)
			}
			best = min(best, time.Since(began))
		}
		if best > atOnce {
			t.Errorf("%s: told after %v", what, best)
		}
	}
	said := func(s *harness.Sidecar, lines ...string) {
		harness.Eventually(t, 10*time.Second, func() error {
			for _, line := range lines {
				if !strings.Contains(s.Output(), line) {
					return fmt.Errorf("the log of %s has no %q", s.Options.App, line)
				}
			}
			return nil
		})
	}
	said(providers[0], "protocol=tcp service=default/db", "source=default/consumer")
	said(consumer, "has no instance: nobody has published it", "protocol=tcp service=default/nobody", "flag=no-route")

	l := begin(t, func() error { return exchange(at, []byte("under load")) })
	l.more(50)
	if code := providers[0].Stop(); code != 0 { // what it has is ended first
		t.Errorf("exit %d", code)
	}
	l.more(50)
	l.end()
	before := counts[0].Load()
	if err := exchange(at, []byte("x")); err != nil || counts[0].Load() != before {
		t.Errorf("when one of two has gone: %v", err)
	}
	providers[1].Kill()
	harness.Eventually(t, 10*time.Second, func() error {
		if err := exchange(at, nil); !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("when both have gone: %v", err)
		}
		return nil
	})
}
