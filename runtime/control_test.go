package runtime_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	registryv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/registry/v1"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

// sofaConfig has SOFARPC's listeners on a host of the machine's loopback, at ports that are free there.
func sofaConfig(t *testing.T, host string, appPort int) (text, control string) {
	t.Helper()
	var addresses []string
	for range 2 {
		ln, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, ln.Addr().String())
		defer ln.Close()
	}
	return fmt.Sprintf("app: {port: %d, protocol: bolt}\nregistry: {default: {driver: file}}\nmesh: {registry: default, sofarpc: {control: %q, outbound: %q}}\ndrain: {propagation: 10ms}\n",
		appPort, addresses[0], addresses[1]), addresses[0]
}

const publishHello = `{"serviceName":"peer.Hello:1.0","protocolType":"bolt","group":null}`

func say(t *testing.T, control, path, body string) string {
	t.Helper()
	resp, err := http.Post("http://"+control+path, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

var hello = &registryv1.Service{Name: "peer.Hello:1.0", Protocol: "bolt"}

// known waits until the sidecar's directory has a service, or has it no more.
func known(t *testing.T, s *sidecar, of *registryv1.Service, want bool) {
	t.Helper()
	conn := dial(t, s.grpc)
	defer conn.Close()
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := registryv1.NewRegistryClient(conn).Resolve(within(t, 10*time.Second), &registryv1.ResolveRequest{Service: of})
		if (err == nil) == want {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("the service is known: %t; %v", !want, err)
		}
	}
}

// TestSOFARPCPublishes: what it asks for once is announced while its port answers, and by the next sidecar, too, which it is not asked of.
func TestSOFARPCPublishes(t *testing.T) {
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := app.Addr().(*net.TCPAddr).Port
	text, control := sofaConfig(t, "127.0.0.1", port)
	s := start(t, text)
	if got := say(t, control, "/services/publish", publishHello); !strings.Contains(got, `"success":true`) {
		t.Fatal(got)
	}
	known(t, s, hello, true)
	app.Close()
	known(t, s, hello, false) // it has gone
	if app, err = net.Listen("tcp", app.Addr().String()); err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	known(t, s, hello, true)
	next := s.replacement(t)
	known(t, next, hello, true)
	if got := say(t, control, "/services/unpublish", publishHello); !strings.Contains(got, `"success":true`) {
		t.Fatal(got)
	}
	known(t, next, hello, false)
}

// TestSOFARPCServesUntilAllHaveHeard: what it takes back it may stop to serve when it is answered, which is after drain.propagation.
func TestSOFARPCServesUntilAllHaveHeard(t *testing.T) {
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	text, control := sofaConfig(t, "127.0.0.1", app.Addr().(*net.TCPAddr).Port)
	s := start(t, strings.Replace(text, "10ms", "500ms", 1))
	say(t, control, "/services/publish", publishHello)
	known(t, s, hello, true)
	began := time.Now()
	if got := say(t, control, "/services/unpublish", publishHello); !strings.Contains(got, `"success":true`) {
		t.Fatal(got)
	}
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("it was answered after %s", took)
	}
	known(t, s, hello, false)
}

// TestSOFARPCOfTwoSidecars: what is taken is said, with what to do; on another host there is room.
func TestSOFARPCOfTwoSidecars(t *testing.T) {
	text, control := sofaConfig(t, "127.0.0.1", 0)
	text = strings.Replace(text, "app: {port: 0, protocol: bolt}\n", "", 1)
	start(t, text)
	if _, err := begin(t, text); err == nil || !strings.Contains(err.Error(), control) || !strings.Contains(err.Error(), "127.0.0.2") {
		t.Errorf("a second one: %v", err)
	}
	second := start(t, strings.ReplaceAll(text, "127.0.0.1", "127.0.0.2"))
	if got := say(t, strings.Replace(control, "127.0.0.1", "127.0.0.2", 1), "/services/publish", publishHello); !strings.Contains(got, "app.port") {
		t.Errorf("an application whose port is not known: %s", got)
	}
	_ = second
}

// TestMOSNPublishes: what an application asks for as it does of MOSN is done: it is announced with its version and group, taken back, and called.
func TestMOSNPublishes(t *testing.T) {
	app := rpctest.Serve(t, rpctest.Dubbo)
	var port int
	if _, err := fmt.Sscanf(app.Addr(), "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	text, control := sofaConfig(t, "127.0.0.1", port)
	s := start(t, strings.Replace(text, "protocol: bolt", "protocol: dubbo", 1))
	ask := func(path, service string) {
		t.Helper()
		if got := say(t, control, path, `{"registry":{"type":"zookeeper","addr":"127.0.0.1:2181"},"service":`+service+`}`); !strings.Contains(got, `"err_no":0`) {
			t.Fatalf("%s: %s", path, got)
		}
	}
	of := &registryv1.Service{Name: "peer.Hello", Version: "1.2", Group: "g", Protocol: "dubbo"}
	const full, plain = `{"interface":"peer.Hello","methods":["echo"],"group":"g","version":"1.2"}`, `{"interface":"peer.Hello","methods":["echo"]}`
	ask("/pub", full)
	known(t, s, of, true)
	ask("/unpub", full)
	known(t, s, of, false)

	ask("/pub", plain)
	ask("/sub", plain)
	if _, info := s.get("/info"); !strings.Contains(info, `"default/peer.Hello dubbo"`) {
		t.Errorf("what is subscribed to is not watched before the first call: %s", info)
	}
	known(t, s, &registryv1.Service{Name: "peer.Hello", Protocol: "dubbo"}, true)
	nc, err := net.Dial("tcp", s.outbound)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	w := &rpctest.Wire{Conn: nc, Dialect: rpctest.Dubbo}
	if f := w.Call(t, 7, 5*time.Second, "echo", "as it was"); !strings.Contains(rpctest.Dubbo.Body(f.Bytes), "as it was") {
		t.Errorf("answered %q", f.Bytes)
	}
	ask("/unsub", plain) // what is called no more is forgotten
}
