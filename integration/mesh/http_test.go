package mesh

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/install"
)

// webPair is an application of HTTP with its sidecar, and the sidecar of one that calls it.
type webPair struct {
	dir            string
	callee, caller *harness.Sidecar
}

// stock is the application's part of the tests.
func stock(w http.ResponseWriter, r *http.Request) {
	http.NewResponseController(w).EnableFullDuplex()
	switch r.URL.Path {
	case "/host":
		io.WriteString(w, r.Host)
	case "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: first\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case "/ws":
		websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) }).ServeHTTP(w, r)
	default:
		io.Copy(w, r.Body)
	}
}

func serveWeb(t *testing.T, h http.HandlerFunc) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

func startWeb(t *testing.T, port int, more string) *webPair {
	t.Helper()
	config := "registry: {default: {driver: file}}\n" + more
	p := &webPair{dir: t.TempDir()}
	p.callee = harness.Start(t, harness.Options{App: "stock", AppPort: port, Protocol: "http", DataDir: p.dir, Config: config})
	p.caller = harness.Start(t, harness.Options{App: "orders", DataDir: p.dir, Config: config})
	harness.Eventually(t, 20*time.Second, func() error {
		rp, body, err := p.get("/host")
		if err == nil && (rp.StatusCode != 200 || body != "stock") {
			err = fmt.Errorf("%d %s", rp.StatusCode, body)
		}
		return err
	})
	return p
}

// client sends everything through the caller's sidecar as its proxy.
func (p *webPair) client() *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: p.caller.Outbound})}}
}

func (p *webPair) get(path string) (*http.Response, string, error) {
	c := p.client()
	defer c.CloseIdleConnections()
	rp, err := c.Get("http://stock" + path)
	if err != nil {
		return nil, "", err
	}
	defer rp.Body.Close()
	b, err := io.ReadAll(rp.Body)
	return rp, string(b), err
}

// Stock clients, with configuration alone, by the host and through the sidecar as their proxy.
func TestHTTPClients(t *testing.T) {
	t.Log("feature: http, stock clients and servers")
	p := startWeb(t, serveWeb(t, stock), "")
	host, port, _ := net.SplitHostPort(p.caller.Outbound)
	for _, c := range []struct {
		tool install.Tool
		args []string
		want string
	}{
		{install.Tool{Name: "curl", Packages: "curl"}, []string{"-sS", "-H", "Host: stock", "http://" + p.caller.Outbound + "/host"}, "stock"},
		{install.Tool{Name: "curl", Packages: "curl"}, []string{"-sS", "-x", "http://" + p.caller.Outbound, "-H", "Expect: 100-continue", "-d", "ok", "http://stock/echo"}, "ok"},
		{install.Tool{Name: "node", Packages: "nodejs"}, []string{"peers/http/client.js", host, port}, "ok"},
		{install.Tool{Name: "python3", Packages: "python3"}, []string{"peers/http/client.py", host, port}, "ok"},
		{install.Tool{Name: "java", Packages: "default-jdk-headless"}, []string{"peers/http/Client.java", host, port}, "ok"},
	} {
		t.Run(c.tool.Name, func(t *testing.T) {
			if err := c.tool.Need(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, c.tool.Name, c.args...).CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != c.want {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// A client that has the provider's sidecar from a registry needs none itself; it says nothing of services.
func TestHTTPThroughOneSidecar(t *testing.T) {
	p := startWeb(t, serveWeb(t, stock), "")
	rp, err := http.Get("http://" + p.callee.Inbound + "/host")
	if err != nil {
		t.Fatal(err)
	}
	defer rp.Body.Close()
	if b, _ := io.ReadAll(rp.Body); rp.StatusCode != 200 || string(b) != p.callee.Inbound {
		t.Errorf("%d %s", rp.StatusCode, b)
	}
}

// Events come at once, though the answer never ends.
func TestHTTPEvents(t *testing.T) {
	p := startWeb(t, serveWeb(t, stock), "")
	rp, err := p.client().Get("http://stock/events")
	if err != nil {
		t.Fatal(err)
	}
	defer rp.Body.Close()
	if line, err := bufio.NewReader(rp.Body).ReadString('\n'); err != nil || line != "data: first\n" {
		t.Error(line, err)
	}
}

func TestHTTPWebSocket(t *testing.T) {
	p := startWeb(t, serveWeb(t, stock), "")
	c, err := websocket.NewConfig("ws://stock/ws", "http://stock/")
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", p.caller.Outbound)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	ws, err := websocket.NewClient(c, nc)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	for n := 1; n < 200_000; n *= 4 {
		sent, got := bytes.Repeat([]byte{'w'}, n), make([]byte, n)
		if _, err := ws.Write(sent); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(ws, got); err != nil || !bytes.Equal(sent, got) {
			t.Fatal(n, err)
		}
	}
}

// Errors in terms of HTTP, with the reason, at once.
func TestHTTPErrors(t *testing.T) {
	p := startWeb(t, serveWeb(t, stock), "")
	for _, c := range []struct {
		url, reason string
		status      int
	}{
		{"http://127.0.0.1:9/x", "SERVICE_UNNAMED", 404},
		{"http://nobody/x", "NO_INSTANCE", 503},
	} {
		begin := time.Now()
		rp, err := p.client().Get(c.url)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(rp.Body)
		rp.Body.Close()
		took := time.Since(begin)
		if rp.StatusCode != c.status || rp.Header.Get("outrigger-reason") != c.reason || !strings.Contains(string(b), c.reason) || took > time.Second {
			t.Errorf("%s: %d %v after %v: %s", c.url, rp.StatusCode, rp.Header, took, b)
		}
	}
}

// One of two providers is killed with its sidecar under load: it gets no calls any more within a second. Those that it was handling
// are lost, or repeated if the policies say so.
func TestHTTPProviderKilled(t *testing.T) {
	p := startWeb(t, serveWeb(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "stock") }), "")
	var there atomic.Int64
	port := serveWeb(t, func(w http.ResponseWriter, r *http.Request) { there.Add(1); io.WriteString(w, "stock") })
	second := harness.Start(t, harness.Options{App: "stock", AppPort: port, Protocol: "http", DataDir: t.TempDir(),
		Config: "registry: {default: {driver: file, options: {dir: " + p.dir + "/registry}}}\n"})
	var calls, failed atomic.Int64
	var last atomic.Value
	var killed, when atomic.Int64 // in nanoseconds
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 8 { // each has one call under way, and may meet the dead instance once more
		load.Go(func() {
			c := p.client()
			for {
				select {
				case <-stop:
					return
				default:
				}
				rp, err := c.Get("http://stock/x")
				if err == nil {
					io.Copy(io.Discard, rp.Body)
					rp.Body.Close()
					if rp.StatusCode != 200 {
						err = errors.New(rp.Status + " " + rp.Header.Get("outrigger-reason"))
					}
				}
				if calls.Add(1); err != nil {
					failed.Add(1)
					last.Store(err.Error())
					when.Store(time.Now().UnixNano())
				}
			}
		})
	}
	reached := func(n int64) {
		harness.Eventually(t, 20*time.Second, func() error {
			if calls.Load() < n {
				return fmt.Errorf("%d calls", calls.Load())
			}
			return nil
		})
	}
	reached(500)
	harness.Eventually(t, 20*time.Second, func() error {
		if there.Load() < 100 {
			return errors.New("the second instance is not called")
		}
		return nil
	})
	killed.Store(time.Now().UnixNano())
	second.Signal(syscall.SIGKILL)
	reached(calls.Load() + 2000)
	close(stop)
	load.Wait()
	if n, late := failed.Load(), time.Duration(when.Load()-killed.Load()); n > 16 || late > time.Second {
		t.Errorf("%d of %d calls failed, the last %v after the end: %v", n, calls.Load(), late, last.Load())
	}
}
