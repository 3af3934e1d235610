package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// leaver is an application that ends each connection at its first request, or, if it keeps, at the second one, which it does not answer. It counts requests.
func leaver(t *testing.T, keeps bool) (addr string, requests *atomic.Int32) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	requests = &atomic.Int32{}
	serve := func(nc net.Conn) {
		defer nc.Close()
		in := bufio.NewReader(nc)
		for first := true; ; first = false {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			if requests.Add(1); !first || !keeps {
				return
			}
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}
	go func() {
		for nc, err := ln.Accept(); err == nil; nc, err = ln.Accept() {
			go serve(nc)
		}
	}()
	return ln.Addr().String(), requests
}

// An application that ends a connection, which it had kept open, as a request comes on it is asked once more, if that does no harm. One that ends a
// new connection has seen what it was asked.
func TestKeptConnectionThatEnds(t *testing.T) {
	for _, c := range []struct {
		keeps              bool
		method             string
		status             int // of the second request
		requests, attempts int
	}{
		{true, "GET", 200, 3, 2}, {true, "PUT", 200, 3, 2}, {true, "POST", 502, 2, 1}, {false, "GET", 502, 2, 1},
	} {
		app, requests := leaver(t, c.keeps)
		m := &monitor{}
		gate := &mesh.Gate{Concurrency: 9, MaxHops: 16}
		in := httpIn(t, app, gate, m)
		nc, err := net.Dial("tcp", in)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		answers := bufio.NewReader(nc)
		call := func() (*http.Response, string) { // on one connection: else the second may be there before the application's connection is free
			io.WriteString(nc, c.method+" / HTTP/1.1\r\nHost: stock\r\nContent-Length: 4\r\n\r\nbody")
			rp, err := http.ReadResponse(answers, &http.Request{Method: c.method})
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(rp.Body)
			return rp, string(b)
		}
		call()
		rp, body := call()
		nc.Close()
		if rp.StatusCode != c.status || c.status == 200 && body != "ok" {
			t.Errorf("%s: %d %q, want %d", c.method, rp.StatusCode, body, c.status)
		}
		if n := int(requests.Load()); n != c.requests {
			t.Errorf("%s: the application was asked %d times, want %d", c.method, n, c.requests)
		}
		all := m.all(t, 2)
		if r := all[1]; r.Attempts != c.attempts || c.status == 200 && r.Flag != "" {
			t.Errorf("%s: %+v, want %d attempts", c.method, r, c.attempts)
		}
		if gate.Active() != 0 {
			t.Errorf("%s: %d calls are counted as under way", c.method, gate.Active())
		}
	}
}

// What is refused before it can be read is told of, too.
func TestUnreadableRequestsAreTold(t *testing.T) {
	app := webApp(t, func(http.ResponseWriter, *http.Request) { t.Error("it came in") })
	for _, c := range []struct{ request, status string }{
		{"POST /a HTTP/1.1\r\nHost: stock\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
		{"GET /a HTTP/1.1\r\nHost: stock\r\nX: " + strings.Repeat("x", 30<<10) + "\r\n\r\n", "431"},
	} {
		in, out := &monitor{}, &monitor{}
		inbound := httpIn(t, app, &mesh.Gate{Concurrency: 9, MaxHops: 16}, in)
		for addr, m := range map[string]*monitor{inbound: in, httpOut(t, &engine{addresses: []string{inbound}}, out): out} {
			ask(t, addr, c.request)
			if r := m.all(t, 1)[0]; r.Status != c.status || r.Flag != "protocol" || r.Protocol != "http" || r.Upstream != "" || r.Service.String() != "" || r.Attempts != 0 {
				t.Errorf("%.20q: %+v", c.request, r)
			}
		}
	}
}
