package proxy_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// door is a dispatcher with two protocols that answer their names and echo.
type door struct {
	*proxy.Dispatch
	address string
	log     *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func echo(name, prefix string) proxy.Protocol {
	return proxy.Protocol{Name: name, Match: proxy.Prefix(prefix), Serve: func(nc net.Conn, head []byte) {
		defer nc.Close()
		fmt.Fprintf(nc, "%s:%s", name, head)
		io.Copy(nc, nc)
	}}
}

func newDoor(log *lockedBuffer) *proxy.Dispatch {
	return &proxy.Dispatch{Logger: slog.New(slog.NewTextHandler(log, nil)), Protocols: []proxy.Protocol{echo("http2", proxy.HTTP2), echo("other", "PRIVET")}}
}

func open(t *testing.T, change func(*proxy.Dispatch)) *door {
	t.Helper()
	d := &door{log: &lockedBuffer{}}
	d.Dispatch = newDoor(d.log)
	if change != nil {
		change(d.Dispatch)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.address = ln.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- d.Serve(ln) }()
	t.Cleanup(func() { ln.Close(); <-ended; d.Close() })
	return d
}

func (d *door) dial(t *testing.T) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return nc
}

func TestToldApartByFirstBytes(t *testing.T) {
	d := open(t, nil)
	for sent, want := range map[string]string{"PRI * HTTP/2.0\r\n": "http2:PRI * HTTP/2.0\r\n", "PRIVET!": "other:PRIVET!", "PRI * HT": "http2:PRI * HT"} {
		nc := d.dial(t)
		for _, b := range []byte(sent) { // one by one: what belongs to two of them is waited for
			if _, err := nc.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		nc.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(nc); err != nil || string(got) != want {
			t.Errorf("%q was answered %q, %v; want %q", sent, got, err, want)
		}
	}
}

func TestWhatIsNotServedIsRefused(t *testing.T) {
	d := open(t, func(d *proxy.Dispatch) { d.Hint = "Go elsewhere." })
	res, err := http.Post("http://"+d.address+"/", "text/plain", strings.NewReader(strings.Repeat("x", 10_000)))
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != http.StatusBadRequest || res.Header.Get(proxy.HeaderOrigin) != "sidecar" || !strings.Contains(string(text), "gRPC") || !strings.HasSuffix(string(text), "Go elsewhere.\n") {
		t.Fatalf("%s %q, %v", res.Status, text, err)
	}
	for _, sent := range []string{"SSH-2.0-x\r\n", "PRIX", "GETTING"} {
		nc := d.dial(t)
		nc.Write([]byte(sent))
		if got, err := io.ReadAll(nc); len(got) != 0 {
			t.Errorf("%q was answered %q, %v", sent, got, err)
		}
	}
	if _, err := tls.Dial("tcp", d.address, &tls.Config{InsecureSkipVerify: true}); err == nil || !strings.Contains(err.Error(), "handshake failure") {
		t.Errorf("TLS: %v", err)
	}
	if !strings.Contains(d.log.String(), "unknown protocol") {
		t.Fatalf("the log says %q", d.log.String())
	}
	if n := strings.Count(d.log.String(), "\n"); n > 3 {
		t.Fatalf("%d lines of 4 connections within a second", n)
	}
}

// pipes is a listener whose connections come from addresses of a test's choice.
type pipes struct{ conns chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	nc, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return nc, nil
}
func (p *pipes) Close() error   { close(p.conns); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

type from struct {
	net.Conn
	ip string
}

func (f from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.ip), Port: 1} }

func (p *pipes) dial(ip string) net.Conn {
	here, there := net.Pipe()
	p.conns <- from{there, ip}
	return here
}

// bubble runs a dispatcher with a clock that a test moves.
func bubble(t *testing.T, change func(*proxy.Dispatch), test func(t *testing.T, d *proxy.Dispatch, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(&lockedBuffer{})
		change(d)
		p := &pipes{conns: make(chan net.Conn)}
		go d.Serve(p)
		test(t, d, p)
		p.Close()
		d.Close()
	})
}

// isOpen tells whether a connection was not closed by the other side, as far as can be seen now.
func isOpen(nc net.Conn) bool {
	nc.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := nc.Read(make([]byte, 1))
	return err != io.EOF
}

func TestSilentConnectionsAreGivenUp(t *testing.T) {
	bubble(t, func(*proxy.Dispatch) {}, func(t *testing.T, _ *proxy.Dispatch, p *pipes) {
		silent, slow := p.dial("10.0.0.1"), p.dial("10.0.0.1")
		time.Sleep(9 * time.Second)
		slow.Write([]byte("PRI")) // the time is for all of the first bytes
		if !isOpen(silent) || !isOpen(slow) {
			t.Fatal("given up too early")
		}
		time.Sleep(1500 * time.Millisecond)
		if isOpen(silent) || isOpen(slow) {
			t.Fatal("a connection that does not say its protocol is kept")
		}
		known := p.dial("10.0.0.1")
		go io.Copy(io.Discard, known)
		known.Write([]byte("PRIVET"))
		time.Sleep(time.Hour)
		if _, err := known.Write([]byte("x")); err != nil {
			t.Fatalf("one that is quiet after it has said its protocol: %v", err)
		}
		known.Close()
	})
}

func TestOnePeerCannotLockOutOthers(t *testing.T) {
	bubble(t, func(d *proxy.Dispatch) { d.MaxConns, d.MaxEach = 5, 2 }, func(t *testing.T, _ *proxy.Dispatch, p *pipes) {
		count := func(ips ...string) (open int) {
			var all []net.Conn
			for _, ip := range ips {
				all = append(all, p.dial(ip))
			}
			synctest.Wait()
			for _, nc := range all {
				if isOpen(nc) {
					open++
				}
			}
			for _, nc := range all {
				nc.Close()
			}
			synctest.Wait()
			return open
		}
		flood := slices.Repeat([]string{"10.0.0.1"}, 20)
		if n := count(append(flood, "10.0.0.2")...); n != 3 {
			t.Errorf("%d connections were let in, want 2 of the flood and the other peer's", n)
		}
		if n := count("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:1::1"); n != 3 {
			t.Errorf("%d connections were let in, want 2 of one network and 1 of another", n)
		}
		if n := count("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"); n != 5 {
			t.Errorf("%d connections were let in, want the 5 there may be", n)
		}
		if n := count("10.0.0.1", "10.0.0.1"); n != 2 {
			t.Errorf("%d connections were let in after the others had gone", n)
		}
	})
}

func TestCloseEndsWhatIsBeingToldApart(t *testing.T) {
	bubble(t, func(*proxy.Dispatch) {}, func(t *testing.T, d *proxy.Dispatch, p *pipes) {
		silent, half := p.dial("10.0.0.1"), p.dial("10.0.0.1")
		half.Write([]byte("PRI * "))
		served := p.dial("10.0.0.1")
		go io.Copy(io.Discard, served)
		served.Write([]byte("PRIVET"))
		synctest.Wait()
		d.Close() // waits for all of them
		late := p.dial("10.0.0.1")
		synctest.Wait()
		if isOpen(silent) || isOpen(half) || isOpen(late) {
			t.Fatal("a connection is still open")
		}
		if _, err := served.Write([]byte("x")); err == nil {
			t.Fatal("a connection is still served")
		}
	})
}

// However the first bytes are cut into reads, they come to the same protocol and arrive there whole.
func FuzzDispatch(f *testing.F) {
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), uint8(3))
	f.Add([]byte("PRIVET"), uint8(1))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(5))
	f.Add([]byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, sent []byte, cut uint8) {
		d := newDoor(&lockedBuffer{})
		here, there := grpcproxy.MemPipe(1 << 16)
		ln := &pipes{conns: make(chan net.Conn, 1)}
		ln.conns <- there
		ln.Close()
		d.Serve(ln)
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), int(cut)%7+1)
			here.Write(rest[:n])
			rest = rest[n:]
		}
		here.(interface{ CloseWrite() error }).CloseWrite()
		got, _ := io.ReadAll(here)
		want := ""
		switch {
		case bytes.HasPrefix(sent, []byte(proxy.HTTP2)):
			want = "http2:" + string(sent)
		case bytes.HasPrefix(sent, []byte("PRIVET")):
			want = "other:" + string(sent)
		}
		if want != "" && string(got) != want || want == "" && len(got) > 0 && !bytes.HasPrefix(got, []byte("HTTP/1.1 400")) && !bytes.HasPrefix(got, []byte("\x15\x03")) {
			t.Fatalf("%q was answered %q, want %q", sent, got, want)
		}
		here.Close()
		d.Close()
	})
}

// scarce is a listener of a process that has no file descriptors left.
type scarce struct {
	net.Listener
	tried chan struct{}
}

func (l scarce) Accept() (net.Conn, error) {
	select {
	case l.tried <- struct{}{}:
	default:
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

func TestCloseEndsScarcity(t *testing.T) {
	d := &proxy.Dispatch{Logger: slog.New(slog.DiscardHandler)}
	ln, ended := scarce{tried: make(chan struct{}, 1)}, make(chan error, 1)
	go func() { ended <- d.Serve(ln) }()
	<-ln.tried
	d.Close()
	d.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it tries for ever")
	}
}
