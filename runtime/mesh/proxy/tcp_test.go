package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// greeter speaks first, as databases do; then it sends back what it gets, and ends when its client does, or breaks off at "break".
func greeter(t *testing.T, calls *atomic.Int64) string {
	return rawServer(t, func(nc net.Conn) {
		calls.Add(1)
		io.WriteString(nc, "hello\n")
		first := make([]byte, 5)
		n, _ := io.ReadFull(nc, first)
		if string(first[:n]) == "break" {
			nc.(*net.TCPConn).SetLinger(0)
			return
		}
		nc.Write(first[:n])
		io.Copy(nc, nc)
	})
}

// tcpIn is the address of an inbound side before the application at a port.
func tcpIn(t *testing.T, port int, gate mesh.Inbound, m *monitor) string {
	return tcpInSecure(t, port, gate, m, nil)
}

func tcpInSecure(t *testing.T, port int, gate mesh.Inbound, m *monitor, secure *proxy.Secure) string {
	in := &proxy.TCPInbound{Gate: gate, Monitor: m, App: components.Caller{Namespace: "shop", App: "stock"}, Port: func(service string) (int, bool) {
		return port, service == "db"
	}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &proxy.Dispatch{Logger: slog.New(slog.DiscardHandler), Secure: secure, Protocols: []proxy.Protocol{in.Protocol()}}
	ended := make(chan struct{})
	go func() { d.Serve(ln); close(ended) }()
	t.Cleanup(func() { ln.Close(); d.Close(); <-ended })
	return ln.Addr().String()
}

func tcpOut(t *testing.T, e mesh.Engine, m *monitor, service string) (address string, out *proxy.TCPOutbound) {
	return tcpOutBy(t, e, m, service, dialing(e, m).Dial)
}

func tcpOutBy(t *testing.T, e mesh.Engine, m *monitor, service string, dial func(context.Context, *mesh.Instance) (net.Conn, error)) (address string, out *proxy.TCPOutbound) {
	out = &proxy.TCPOutbound{Engine: e, Monitor: m, Caller: caller, Dial: dial}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		out.Serve(ln, mesh.Service{Namespace: "shop", Name: service}, func(string, ...any) {})
		close(ended)
	}()
	t.Cleanup(func() {
		ln.Close()
		<-ended
		end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := out.Shutdown(end); err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String(), out
}

func portAt(address string) (port int) {
	fmt.Sscan(address[strings.LastIndexByte(address, ':')+1:], &port)
	return port
}

// exchange sends all of what, says that it is done, and answers what comes back to the end. Of nothing not even the end is said: a write
// would take the reset that the read is to see.
func exchange(t *testing.T, at string, what []byte) ([]byte, error) {
	t.Helper()
	nc, err := net.Dial("tcp", at)
	if err != nil {
		return nil, err // it may have been reset already
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	if what != nil {
		go func() {
			if _, err := nc.Write(what); err == nil {
				nc.(*net.TCPConn).CloseWrite()
			}
		}()
	}
	return io.ReadAll(nc)
}

// A connection passes through two sidecars as it is: the server speaks first, a megabyte goes both ways, each side ends for itself.
func TestTCPThroughTwoSidecars(t *testing.T) {
	t.Log("feature: tcp, passes through two sidecars, unchanged")
	var calls atomic.Int64
	g, theirs, ours := &gate{}, &monitor{}, &monitor{}
	e := &engine{addresses: []string{tcpIn(t, portAt(greeter(t, &calls)), g, theirs)}}
	at, _ := tcpOut(t, e, ours, "db")
	much := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	if got, err := exchange(t, at, much); err != nil || !bytes.Equal(got, append([]byte("hello\n"), much...)) {
		t.Fatalf("%d bytes came back: %v", len(got), err)
	}
	for _, r := range []proxy.Record{ours.all(t, 1)[0], theirs.all(t, 1)[0]} {
		if r.Protocol != "tcp" || r.Service.String() != "shop/db" || r.Source != "shop/orders" || r.Attempts != 1 || r.Code != 0 || r.Flag != "" || r.Sent != int64(len(much)) || r.Received != int64(len(much))+6 {
			t.Errorf("recorded %+v", r)
		}
	}
	g.empty(t, 1)
	e.reported(t, e.addresses[0]+" answered")
}

// What one side breaks off is broken off at the other, and not taken for an end in order.
func TestTCPIsBrokenOff(t *testing.T) {
	var calls atomic.Int64
	e := &engine{addresses: []string{tcpIn(t, portAt(greeter(t, &calls)), &gate{}, &monitor{})}}
	at, _ := tcpOut(t, e, &monitor{}, "db")
	if got, err := exchange(t, at, []byte("break")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v", got, err)
	}
	e.reported(t, e.addresses[0]+" unknown") // else an instance that is gone would be back in play with each old connection that ends
}

// A connection goes to another instance as long as no application has taken it; if none does, it is reset at once.
func TestTCPGoesElsewhere(t *testing.T) {
	t.Log("feature: tcp, a call that was sent to nobody goes to another instance")
	var calls atomic.Int64
	app := portAt(greeter(t, &calls))
	dead := portAt(deadPort(t))
	full := &gate{}
	full.refuse.Store(true)
	good := tcpIn(t, app, &gate{}, &monitor{})
	silent := rawServer(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	for what, c := range map[string]struct {
		first, outcome string
		flag           string
	}{
		"no sidecar":         {deadPort(t), "unreachable", "connect-failed"},
		"dead application":   {tcpIn(t, dead, &gate{}, &monitor{}), "unreachable", "connect-failed"},
		"busy":               {tcpIn(t, app, full, &monitor{}), "answered", "refused"},
		"no sidecar of ours": {rawServer(t, func(nc net.Conn) { io.WriteString(nc, "hello\n") }), "failed", "closed"},
		"silent":             {silent, "failed", "timeout"},
	} {
		t.Run(what, func(t *testing.T) {
			e, m := &engine{addresses: []string{c.first, good}, perTry: 300 * time.Millisecond}, &monitor{}
			at, _ := tcpOut(t, e, m, "db")
			if got, err := exchange(t, at, []byte("12345")); err != nil || string(got) != "hello\n12345" {
				t.Errorf("%q, %v", got, err)
			}
			e.reported(t, c.first+" "+c.outcome, good+" answered")
			before := calls.Load()
			e, m = &engine{addresses: []string{c.first}, perTry: 300 * time.Millisecond}, &monitor{}
			at, _ = tcpOut(t, e, m, "db")
			if got, err := exchange(t, at, nil); !errors.Is(err, syscall.ECONNRESET) || len(got) > 0 || calls.Load() != before {
				t.Errorf("%q, %v", got, err)
			}
			if r := m.all(t, 1)[0]; r.Flag != c.flag || r.Code != 14 || r.Attempts != 3 {
				t.Errorf("recorded %+v", r)
			}
		})
	}
}

// A sidecar lets nothing in by TCP but what its application has published so, and nothing that is not begun as it must be.
func TestTCPThatIsNotLetIn(t *testing.T) {
	var calls atomic.Int64
	g, m := &gate{}, &monitor{}
	in := tcpIn(t, portAt(greeter(t, &calls)), g, m)
	for _, line := range []string{"shop/stock a/b 1", "other/db a/b 1", "db a/b", "db a/b x", "a/b/c a/b 1", "", strings.Repeat("x", 2000)} {
		got, err := exchange(t, in, []byte("\x00tcp/1 "+line+"\n"))
		if len(line) > 1000 {
			if len(got) > 0 {
				t.Errorf("%q, %v", got, err)
			}
		} else if err != nil || !strings.HasPrefix(string(got), "-SERVICE_NOT_HERE not found: ") {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
	if calls.Load() != 0 {
		t.Error("the application was connected")
	}
	at, out := tcpOut(t, &engine{addresses: []string{in}}, &monitor{}, "db")
	nc, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	hello := make([]byte, 6)
	if _, err := io.ReadFull(nc, hello); err != nil || !slices.Equal(hello, []byte("hello\n")) {
		t.Fatalf("%q, %v", hello, err)
	}
	if out.Open() != 1 {
		t.Errorf("%d connections are open", out.Open())
	}
	if err := out.Shutdown(within(t, 50*time.Millisecond)); err == nil { // it is open still, and cut off
		t.Error("it did not wait for what is open")
	}
	if _, err := nc.Read(hello); err == nil {
		t.Error("the connection is open")
	}
	if got, err := exchange(t, at, nil); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the end: %q, %v", got, err)
	}
}

// A connection that is not made yet does not hold up the end: neither one whose instances are not known nor one whose instance says nothing.
func TestTCPEndsWhileItConnects(t *testing.T) {
	asked := make(chan struct{}, 10)
	silent := rawServer(t, func(nc net.Conn) {
		asked <- struct{}{}
		io.Copy(io.Discard, nc)
	})
	for what, e := range map[string]*engine{
		"pending": {pending: &mesh.Pending{Wait: func(func()) { asked <- struct{}{} }}},
		"silent":  {addresses: []string{silent}},
	} {
		t.Run(what, func(t *testing.T) {
			m := &monitor{}
			at, out := tcpOut(t, e, m, "db")
			nc, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			<-asked
			began := time.Now()
			if err := out.Shutdown(within(t, 50*time.Millisecond)); err == nil {
				t.Error("it did not wait")
			}
			if took := time.Since(began); took > 3*time.Second { // both would take 5 s and more
				t.Errorf("it took %s", took)
			}
			if r := m.all(t, 1)[0]; r.Attempts > 1 {
				t.Errorf("recorded %+v", r)
			}
		})
	}
}

// However a connection begins, it ends, and only a line that names a service of the application's asks for its port.
func FuzzTCPBegin(f *testing.F) {
	for _, line := range []string{"", "\n", "shop/db a/b 1\n", "shop/db a/b 99999999999999999999\n", "db  1\n", "\xff/\xff \xff 1\n"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m := &monitor{}
		in := &proxy.TCPInbound{Gate: &gate{}, Monitor: m, App: components.Caller{Namespace: "shop", App: "stock"}, Port: func(service string) (int, bool) {
			if !bytes.HasPrefix(line, []byte("shop/"+service+" ")) && !bytes.HasPrefix(line, []byte(service+" ")) {
				t.Errorf("%q asks for %q", line, service)
			}
			return 0, false
		}}
		client, server := net.Pipe()
		client.Close()
		in.Protocol().Serve(server, append([]byte("\x00tcp/1 "), line...))
		if m.begun != len(m.ended) || m.double {
			t.Errorf("%q: %d began, %d ended", line, m.begun, len(m.ended))
		}
	})
}
