package httpproxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

func TestSSE(t *testing.T) {
	t.Log("feature: http, events of a server and streams, as they come")
	next := make(chan bool)
	g := newRig(t, httpUp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 5 {
			fmt.Fprint(w, "data: x\n\n")
			w.(http.Flusher).Flush()
			<-next
		}
	}))
	rp, err := client().Get("http://" + g.addr)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 9)
	for range 5 {
		begin := time.Now()
		if _, err := io.ReadFull(rp.Body, b); err != nil || time.Since(begin) > 100*time.Millisecond {
			t.Fatal(err, time.Since(begin))
		}
		next <- true
	}
	if _, err := rp.Body.Read(b); err != io.EOF {
		t.Fatal(err)
	}
}

func TestEarlyResponse(t *testing.T) {
	up := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		if r, err := http.ReadRequest(br); err == nil {
			io.CopyN(io.Discard, r.Body, 10)
			io.WriteString(nc, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
			time.Sleep(300 * time.Millisecond)
		}
	})
	g := newRig(t, up)
	for range 5 {
		nc := dial(t, g.addr)
		io.WriteString(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
		go io.Copy(nc, io.LimitReader(zeros{}, 1<<20))
		rp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(rp.Body); rp.StatusCode != 413 || string(b) != "big" {
			t.Fatal(rp.StatusCode, b, err)
		}
	}
}

func TestGigabyte(t *testing.T) {
	t.Log("feature: http, bodies and messages of any size")
	const size = 256 << 20
	var sum atomic.Int64
	g := newRig(t, httpUp(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		sum.Add(n)
		if r.Method == "GET" {
			if r.URL.Path == "/fixed" {
				w.Header().Set("Content-Length", fmt.Sprint(size))
			}
			io.CopyN(w, zeros{}, size)
		}
	}))
	var top atomic.Uint64
	stop := make(chan bool)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				top.Store(max(top.Load(), m.HeapInuse))
			}
		}
	}()
	for _, path := range []string{"/fixed", "/chunked"} {
		begin := time.Now()
		rp, err := client().Get("http://" + g.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, rp.Body); n != size || err != nil {
			t.Fatal(n, err)
		}
		down := time.Since(begin)
		var body io.Reader = io.LimitReader(zeros{}, size)
		rq, _ := http.NewRequest("POST", "http://"+g.addr, body)
		if path == "/fixed" {
			rq.ContentLength = size
		}
		sum.Store(0)
		begin = time.Now()
		if rp, err = client().Do(rq); err != nil || rp.StatusCode != 200 || sum.Load() != size {
			t.Fatal(err, sum.Load())
		}
		t.Log(path, "down", down, "up", time.Since(begin))
	}
	close(stop)
	if top.Load() > 32<<20 {
		t.Error("heap", top.Load()>>20, "MiB")
	}
	t.Log("heap", top.Load()>>10, "KiB")
}

func TestWebSocket(t *testing.T) {
	t.Log("feature: http, WebSocket and other upgrades")
	g := newRig(t, httpUp(t, websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) }).ServeHTTP))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			c, err := websocket.Dial("ws://"+g.addr+"/ws", "", "http://a.test/")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for k := range 100 {
				m := bytes.Repeat([]byte{byte('a' + i)}, 1+k*1000)
				b := make([]byte, len(m))
				if _, err := c.Write(m); err != nil {
					t.Error(err)
					return
				}
				if _, err := io.ReadFull(c, b); err != nil || !bytes.Equal(b, m) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if o := g.outcome(t, 19); o.Status != 101 || o.Sent == 0 || o.Received == 0 {
		t.Error(o)
	}
}

func TestConnect(t *testing.T) {
	up := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		io.Copy(nc, br)
		io.WriteString(nc, "bye") // after the client's half-close
	})
	g := newRig(t, up)
	nc := dial(t, g.addr)
	io.WriteString(nc, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nearly")
	br := bufio.NewReader(nc)
	rp, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"})
	if err != nil || rp.StatusCode != 200 {
		t.Fatal(err)
	}
	go func() { io.CopyN(nc, zeros{}, 1<<20); nc.CloseWrite() }()
	b, err := io.ReadAll(br)
	if err != nil || len(b) != 5+1<<20+3 || !bytes.HasPrefix(b, []byte("early")) || !bytes.HasSuffix(b, []byte("bye")) {
		t.Fatal(len(b), err)
	}
	// An HTTPS client through it as a forward proxy, and absolute-form requests of a plain one.
	ts := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer ts.Close()
	g2 := newRig(t, ts.Listener.Addr().String())
	tr := ts.Client().Transport.(*http.Transport)
	tr.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: g2.addr})
	if rp, err := ts.Client().Post(ts.URL, "", strings.NewReader("x")); err != nil || rp.StatusCode != 200 {
		t.Fatal(err)
	}
	g3 := newRig(t, httpUp(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host+r.RequestURI) }))
	hc := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: g3.addr})}}
	if rp, err = hc.Get("http://some.test:81/p?q"); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(rp.Body); string(b) != "some.test:81/p?q" {
		t.Errorf("%q", b)
	}
}

// lateWrites are those of a connection whose goroutine does not come to know of its last write before the connection is closed, as on a
// busy machine.
type lateWrites struct {
	net.Conn
	writes int
	closed chan struct{}
	once   sync.Once
}

func (w *lateWrites) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if w.writes++; w.writes > 1 {
		<-w.closed
	}
	return n, err
}

func (w *lateWrites) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// An answer that ends before the sidecar has noticed that it has sent all of the request leaves the client its connection.
func TestAnswerBeforeTheLastWriteReturns(t *testing.T) {
	begun := make(chan bool)
	up := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		begun <- true
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
		br.ReadByte() // until it is closed
	})
	g := newRig(t, "", func(r *Relay) {
		u := r.NewUpstream("up.test", func(ctx context.Context) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", up)
			return &lateWrites{Conn: nc, closed: make(chan struct{})}, err
		})
		r.Route = func(h *Head) (*Upstream, error) { return u, nil }
	})
	nc := dial(t, g.addr)
	br := bufio.NewReader(nc)
	for range 3 {
		io.WriteString(nc, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		<-begun
		io.WriteString(nc, "5\r\nhello\r\n0\r\n\r\n")
		rp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(rp.Body); string(b) != "hello" || rp.Close {
			t.Errorf("%q, close: %v", b, rp.Close)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.outs {
		if o.Err != nil || o.Flag != "" {
			t.Errorf("%+v", o)
		}
	}
}
