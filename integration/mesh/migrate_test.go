package mesh

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// nodeOf is how a provider without a sidecar registers itself in ZooKeeper, as the framework of its protocol does. Of gRPC there is none: it
// is written where sidecars write theirs, without what they say of it.
func nodeOf(protocol string, port int) (node, data string) {
	switch protocol {
	case "bolt":
		return "/sofa-rpc/" + askedService + "/providers/" + url.QueryEscape(fmt.Sprintf("bolt://127.0.0.1:%d?version=1.0&weight=100&protocol=bolt&uniqueId=", port)), "\x01"
	case "dubbo":
		return "/dubbo/" + askedService + "/providers/" + url.QueryEscape(fmt.Sprintf("dubbo://127.0.0.1:%d/%s?interface=%[2]s&side=provider", port, askedService)), ""
	case "http":
		return fmt.Sprintf("/services/%s/itself", askedService), fmt.Sprintf(`{"name":%q,"id":"itself","address":"127.0.0.1","port":%d,"payload":{"@class":"x","metadata":{}}}`, askedService, port)
	}
	return fmt.Sprintf("/outrigger/registry/default,,%s/127.0.0.1:%d,itself,1", askedService, port), `{"weight":100}`
}

// register writes a node and the folders that it is in.
func register(conn *zk.Conn, node, data string) error {
	if node == "/" {
		return nil
	}
	if err := register(conn, path.Dir(node), ""); err != nil {
		return err
	}
	if _, err := conn.Create(node, []byte(data), 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
		return err
	}
	return nil
}

const (
	floodConns  = 4
	floodWindow = 50 // calls of a connection that are not answered yet
)

// flood makes calls over a few connections, on each of them many before the first is answered; none may fail.
func (w wire) flood(t *testing.T, address string, calls int) error {
	var all sync.WaitGroup
	faults := make(chan error, floodConns)
	for range floodConns {
		if w.protocol == "grpc" {
			call := w.client(t, address)
			all.Go(func() { faults <- manyAtOnce(call, calls/floodConns) })
			continue
		}
		all.Go(func() { faults <- w.stream(address, calls/floodConns) })
	}
	all.Wait()
	var wrong []error
	for range floodConns {
		wrong = append(wrong, <-faults)
	}
	return errors.Join(wrong...)
}

// manyAtOnce makes calls of a client that takes many at once.
func manyAtOnce(call func(string) error, calls int) error {
	var all sync.WaitGroup
	faults := make(chan error, floodWindow)
	for range floodWindow {
		all.Go(func() {
			for range calls / floodWindow {
				if err := call("fine"); err != nil {
					faults <- err
					return
				}
			}
			faults <- nil
		})
	}
	all.Wait()
	var wrong []error
	for range floodWindow {
		wrong = append(wrong, <-faults)
	}
	return errors.Join(wrong...)
}

func (w wire) stream(address string, calls int) error {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer nc.Close()
	in := bufio.NewReader(nc)
	for n := 0; n < calls; n += floodWindow {
		nc.SetDeadline(time.Now().Add(12 * patience))
		var out []byte
		for i := range floodWindow {
			out = append(out, w.written(uint32(n+i))...)
		}
		if _, err := nc.Write(out); err != nil {
			return err
		}
		for i := range floodWindow {
			if err := w.answered(in); err != nil {
				return fmt.Errorf("call %d: %w", n+i, err)
			}
		}
	}
	return nil
}

var httpFine = []byte("POST /fine HTTP/1.1\r\nHost: x\r\nOutrigger-Service: " + askedService + "\r\nContent-Length: 0\r\n\r\n")

func (w wire) written(id uint32) []byte {
	if w.protocol == "http" {
		return httpFine
	}
	return w.frames().request(id, "fine")
}

func (w wire) frames() framed {
	return map[string]framed{"bolt": boltWire, "dubbo": dubboWire}[w.protocol]
}

func (w wire) answered(in *bufio.Reader) error {
	if w.protocol != "http" {
		frame, err := w.frames().read(in)
		if err != nil {
			return err
		}
		return w.frames().failure(frame)
	}
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || !bytes.Equal(text, []byte("fine"))) {
		err = fmt.Errorf("%s: %s", res.Status, text)
	}
	return err
}

// TestMigrationByPercent: of 100,000 calls to a service that has one provider with a sidecar and one that has registered itself, 10 % go
// through the sidecar, by the providers' own count, and all arrive once. Other rules send them by headers and instances.
func TestMigrationByPercent(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, a migration sends its share of the calls through sidecars")
	t.Log("feature: http grpc bolt dubbo, a migration goes by a header, keeps to its value, and by instances")
	const calls = 100_000
	s := servers.Run(t, "zookeeper")
	conn, _, err := zk.Connect(s.Addrs(), 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	config := fmt.Sprintf("registry: {default: {driver: zookeeper, options: {addresses: [%q], session: 30s}}}\nmesh: {registry: default, inbound: {advertise: 127.0.0.1}}\n", s.Addr())
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			meshed, itself := w.app(t), w.app(t)
			node, data := nodeOf(w.protocol, itself.port)
			if err := register(conn, node, data); err != nil {
				t.Fatal(err)
			}
			service := fmt.Sprintf("app: {services: [{name: %s, protocol: %s, port: %d}]}\n", askedService, w.protocol, meshed.port)
			if w.protocol == "bolt" {
				service = strings.Replace(service, "}]", ", version: '1.0'}]", 1)
			}
			provider := harness.Start(t, harness.Options{App: "provider-" + w.protocol, Config: config + service})
			started := 0
			start := func(migration string) *harness.Sidecar {
				started++
				return harness.Start(t, harness.Options{App: fmt.Sprint("consumer-", w.protocol, started), Config: strings.Replace(config, "mesh: {", "mesh: {migration: ["+migration+"], ", 1)})
			}
			consumer := start("{service: " + askedService + ", mesh: 10%}")
			call := w.client(t, consumer.Outbound)
			harness.Eventually(t, 30*time.Second, func() error {
				err := call("fine")
				if a, b := meshed.times("fine"), itself.times("fine"); err != nil || a == 0 || b == 0 {
					return fmt.Errorf("%d and %d calls, %v", a, b, err)
				}
				return nil
			})
			a, b := meshed.times("fine"), itself.times("fine")
			began := time.Now()
			if err := w.flood(t, consumer.Outbound, calls); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			a, b = meshed.times("fine")-a, itself.times("fine")-b
			fmt.Printf("migration of %s: %d of %d calls through the provider's sidecar, %.2f %%, %d past it; %.1f s\n", w.protocol, a, calls, float64(a)*100/calls, b, took.Seconds())
			if a+b != calls || a < calls*9/100 || a > calls*11/100 {
				t.Errorf("of %d calls %d went through the sidecar and %d past it", calls, a, b)
			}
			w.byRules(t, start, provider, meshed, itself)
		})
	}
}
