package httpproxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

type rig struct {
	*Relay
	addr string
	up   *Upstream
	mu   sync.Mutex
	outs []Outcome
}

func (g *rig) outcome(t *testing.T, i int) Outcome {
	t.Helper()
	for range 400 {
		g.mu.Lock()
		if len(g.outs) > i {
			defer g.mu.Unlock()
			return g.outs[i]
		}
		g.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no outcome", i)
	return Outcome{}
}

func dialer(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

func newRig(t testing.TB, upstream string, set ...func(*Relay)) *rig {
	g := &rig{Relay: &Relay{}}
	for _, f := range set {
		f(g.Relay)
	}
	g.up = g.NewUpstream("up.test", dialer(upstream))
	if g.Route == nil {
		g.Route = func(h *Head) (*Upstream, error) { h.Set("Via", "1.1 relay"); return g.up, nil }
	}
	g.Done = func(o *Outcome) { g.mu.Lock(); g.outs = append(g.outs, *o); g.mu.Unlock() }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = ln.Addr().String()
	go g.Serve(ln)
	t.Cleanup(func() { ln.Close(); g.Close() })
	return g
}

func httpUp(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.Listener.Addr().String()
}

// rawUp serves each connection with f.
func rawUp(t testing.TB, f func(nc net.Conn, br *bufio.Reader)) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer nc.Close(); f(nc, bufio.NewReader(nc)) }()
		}
	}()
	return ln.Addr().String()
}

// canned answers every request with s, then closes if so told.
func canned(t testing.TB, s string, close bool) string {
	return rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			if io.WriteString(nc, s); close {
				return
			}
		}
	})
}

func dial(t testing.TB, addr string) *net.TCPConn {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { nc.Close() })
	return nc.(*net.TCPConn)
}

// raw sends s and returns all that comes back until the end.
func raw(t testing.TB, addr, s string) string {
	t.Helper()
	nc := dial(t, addr)
	io.WriteString(nc, s)
	b, _ := io.ReadAll(nc)
	return string(b)
}

func echo(w http.ResponseWriter, r *http.Request) {
	http.NewResponseController(w).EnableFullDuplex()
	w.Header().Set("X-Id", r.Header.Get("X-Id"))
	w.Header().Set("X-Method", r.Method)
	w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
	switch r.URL.Path {
	case "/204":
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(204)
		return
	case "/304":
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Etag", `"x"`)
		w.WriteHeader(304)
		return
	case "/flush":
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
	case "/hints":
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(103)
	case "/trailers":
		w.Header().Set("Trailer", "X-Sum")
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
		w.Header().Set("X-Sum", fmt.Sprint(len(b))+r.Trailer.Get("X-In"))
		return
	}
	io.Copy(w, r.Body)
}

func client() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2000}, Timeout: 30 * time.Second}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
