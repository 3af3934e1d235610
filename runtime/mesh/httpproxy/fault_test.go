package httpproxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// An upstream that ends its side before it has read anything, and then does nothing: the event must not be lost.
func TestEarlyEnd(t *testing.T) {
	addr := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		nc.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, br)
	})
	g := newRig(t, addr, func(r *Relay) {
		u := r.NewUpstream("up.test", func(ctx context.Context) (net.Conn, error) {
			nc, err := dialer(addr)(ctx)
			time.Sleep(20 * time.Millisecond)
			return nc, err
		})
		r.Route, r.WaitTimeout = func(h *Head) (*Upstream, error) { return u, nil }, 5*time.Second
	})
	for _, m := range []string{"GET", "POST"} {
		begin := time.Now()
		if s := raw(t, g.addr, m+" / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(s, "HTTP/1.1 502") || time.Since(begin) > time.Second {
			t.Errorf("%s: %q %v", m, s, time.Since(begin))
		}
	}
}

func TestUpstreamDies(t *testing.T) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX",
		"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello"} {
		g := newRig(t, canned(t, s, true))
		rp, err := client().Get("http://" + g.addr)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(rp.Body); err == nil || string(b) != "hello" {
			t.Error(string(b), err)
		}
		if o := g.outcome(t, 0); o.Err == nil || o.ByClient || o.Status != 200 {
			t.Error(o)
		}
		nc := dial(t, g.addr)
		io.WriteString(nc, "GET / HTTP/1.0\r\n\r\n")
		if b, err := io.ReadAll(nc); err == nil && !bytes.Contains(b, []byte("Content-Length")) {
			t.Errorf("an HTTP/1.0 client takes it for complete: %q", b)
		}
	}
}

// A client of HTTP/1.0 knows where a body ends by the connection's end: one that broke off does not end in order, by TLS neither.
func TestBrokenAnswerByTLS(t *testing.T) {
	ts := httptest.NewTLSServer(nil)
	defer ts.Close()
	g := newRig(t, canned(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true))
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: ts.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go g.Serve(ln)
	nc, err := tls.Dial("tcp", ln.Addr().String(), ts.Client().Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(nc, "GET / HTTP/1.0\r\n\r\n")
	if b, err := io.ReadAll(nc); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("it takes it for complete: %q, %v", b, err)
	}
}

func TestClientGone(t *testing.T) {
	began, ended := make(chan bool, 10), make(chan bool, 10)
	g := newRig(t, httpUp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sse" {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
		}
		go io.Copy(io.Discard, r.Body)
		began <- true
		<-r.Context().Done()
		ended <- true
	}))
	for i, s := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /sse HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /pipelined HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + strings.Repeat("a", 300000)} {
		nc := dial(t, g.addr)
		io.WriteString(nc, s)
		<-began
		time.Sleep(100 * time.Millisecond)
		nc.Close()
		select {
		case <-ended:
		case <-time.After(3 * time.Second):
			t.Fatal(i, "upstream not cancelled")
		}
		if o := g.outcome(t, i); !o.ByClient {
			t.Error(i, o)
		}
	}
}

func TestHalfClose(t *testing.T) {
	g := newRig(t, httpUp(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		time.Sleep(300 * time.Millisecond)
		w.Write(b)
	}), func(r *Relay) { r.HalfClose = true })
	nc := dial(t, g.addr)
	io.WriteString(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
	nc.CloseWrite()
	if b, err := io.ReadAll(nc); err != nil || !bytes.HasSuffix(b, []byte("abc")) {
		t.Fatal(string(b), err)
	}
}

func TestDeadlines(t *testing.T) {
	t.Log("feature: http, a deadline or timeout is answered in time")
	block := make(chan bool)
	g := newRig(t, httpUp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fast" {
			return
		}
		if r.URL.Path == "/half" {
			w.Write([]byte("half"))
			w.(http.Flusher).Flush()
		}
		select {
		case <-block:
		case <-r.Context().Done():
		}
	}), func(r *Relay) {
		r.HeadTimeout, r.IdleTimeout, r.WaitTimeout, r.StallTimeout = 200*time.Millisecond, 400*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	})
	defer close(block)
	for _, c := range []struct {
		send, want string
		max        time.Duration
	}{
		{"", "", 600 * time.Millisecond}, {"GET / HT", "HTTP/1.1 408 ", 400 * time.Millisecond}, {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 504 ", 900 * time.Millisecond},
		{"GET /fast HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 ", 600 * time.Millisecond}, {"GET /half HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 ", 500 * time.Millisecond},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc", "HTTP/1.1 408 ", 500 * time.Millisecond},
	} {
		nc := dial(t, g.addr)
		io.WriteString(nc, c.send)
		if c.want != "" && !strings.HasPrefix(c.want, "HTTP/1.1 200") {
			nc.CloseWrite()
			nc = dial(t, g.addr)
			io.WriteString(nc, c.send)
		}
		begin := time.Now()
		buf := make([]byte, 1000)
		s := ""
		for {
			n, err := nc.Read(buf)
			if s += string(buf[:n]); err != nil {
				break
			}
		}
		if d := time.Since(begin); !strings.HasPrefix(s, c.want) || c.want == "" && s != "" || d > c.max+100*time.Millisecond {
			t.Errorf("%q: %q after %v", c.send, s, d)
		}
	}
	// Drip-fed heads do not live longer.
	nc := dial(t, g.addr)
	begin := time.Now()
	for range 100 {
		if _, err := nc.Write([]byte("G")); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
		if time.Since(begin) > 1600*time.Millisecond {
			t.Fatal("slowloris")
		}
	}
}

func TestRetry(t *testing.T) {
	t.Log("feature: http, what is not safe to repeat arrives at most once")
	var conns, posts atomic.Int32
	// Every connection answers one request, then ends at the second, which it has read.
	up := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		conns.Add(1)
		for i := 0; ; i++ {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if r.Method == "POST" {
				posts.Add(1)
			}
			if i == 1 {
				return
			}
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	g := newRig(t, up)
	hc := client()
	do := func(m string) int {
		rq, _ := http.NewRequest(m, "http://"+g.addr, nil)
		rp, err := hc.Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, rp.Body)
		rp.Body.Close()
		return rp.StatusCode
	}
	for range 4 {
		if s := do("GET"); s != 200 {
			t.Fatal(s)
		}
	}
	if o := g.outcome(t, 1); o.Attempts != 2 {
		t.Error(o)
	}
	if s := do("POST"); s != 502 || posts.Load() != 1 {
		t.Fatal(s, posts.Load())
	}
	// Dead connections in the pool are found before they are used.
	var n atomic.Int32
	up2 := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			n.Add(1)
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	g2 := newRig(t, up2)
	for range 5 {
		rp, err := hc.Post("http://"+g2.addr, "", nil)
		if err != nil || rp.StatusCode != 200 {
			t.Fatal(rp, err)
		}
		rp.Body.Close()
		time.Sleep(20 * time.Millisecond)
	}
	if n.Load() != 5 {
		t.Error(n.Load())
	}
	// No listener: asked once more, then 502, and the client connection goes on.
	g3 := newRig(t, "127.0.0.1:1")
	nc := dial(t, g3.addr)
	br := bufio.NewReader(nc)
	for i := range 2 {
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		rp, err := http.ReadResponse(br, nil)
		if err != nil || rp.StatusCode != 503 {
			t.Fatal(err)
		}
		io.Copy(io.Discard, rp.Body)
		if o := g3.outcome(t, i); o.Attempts != 2 || !o.Local {
			t.Error(o)
		}
	}
}
