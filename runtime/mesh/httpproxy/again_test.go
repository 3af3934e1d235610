package httpproxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// post sends a body in parts, so that it is not all there with its head, and answers status and body.
func post(t *testing.T, addr, head string, parts ...string) (int, string) {
	t.Helper()
	nc := dial(t, addr)
	if _, err := io.WriteString(nc, head); err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		time.Sleep(30 * time.Millisecond)
		if _, err := io.WriteString(nc, p); err != nil {
			t.Fatal(err)
		}
	}
	rp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(rp.Body)
	return rp.StatusCode, string(b)
}

// A body that came in parts is sent again, whole, to the next instance; one that is larger than what is kept is not.
func TestAgainSendsTheBodyAgain(t *testing.T) {
	var tried atomic.Int32
	dies := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		tried.Add(1)
		if r, err := http.ReadRequest(br); err == nil {
			n, _ := strconv.ParseInt(r.Header.Get("X-Read"), 10, 64)
			io.CopyN(io.Discard, r.Body, n)
		}
	})
	lives := httpUp(t, echo)
	g := newRig(t, dies, func(r *Relay) {
		first := r.NewUpstream("first.test", dialer(dies))
		second := r.NewUpstream("second.test", dialer(lives))
		r.Route = func(h *Head) (*Upstream, error) {
			if h.Attempt > 0 {
				if string(h.Get("x-id")) != "7" {
					t.Errorf("the head is gone at the second attempt: %q", h.Target)
				}
				return second, nil
			}
			return first, nil
		}
		r.Again = func(h *Head, f *Failure) bool { return h.Attempt == 0 }
		r.MaxCopy = 64 << 10
	})
	big := strings.Repeat("b", 30<<10)
	for _, c := range []struct {
		name, head string
		parts      []string
		status     int
		body       string
	}{
		{"with its head", "POST / HTTP/1.1\r\nHost: a\r\nX-Id: 7\r\nX-Read: 8\r\nContent-Length: 8\r\n\r\nabcdefgh", nil, 200, "abcdefgh"},
		{"fixed", "POST / HTTP/1.1\r\nHost: a\r\nX-Id: 7\r\nX-Read: 20004\r\nContent-Length: 30724\r\n\r\nabcd", []string{big[:20000], big[20000:]}, 200, "abcd" + big},
		{"chunked", "POST / HTTP/1.1\r\nHost: a\r\nX-Id: 7\r\nX-Read: 7\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n", []string{"3\r\nefg\r\n", "0\r\n\r\n"}, 200, "abcdefg"},
		{"too large", "POST / HTTP/1.1\r\nHost: a\r\nX-Id: 7\r\nX-Read: 4\r\nContent-Length: 100000\r\n\r\nabcd", []string{big}, 502, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := tried.Load()
			status, body := post(t, g.addr, c.head, c.parts...)
			if status != c.status || c.status == 200 && body != c.body {
				t.Errorf("%d with %d bytes, want %d with %d", status, len(body), c.status, len(c.body))
			}
			if n := tried.Load() - before; n != 1 {
				t.Errorf("the first instance was tried %d times", n)
			}
		})
	}
}

// Again is asked about statuses that tell of a failure, too; what it lets pass goes to the client.
func TestAgainByStatus(t *testing.T) {
	for _, status := range []int{404, 503} {
		againByStatus(t, status)
	}
}

func againByStatus(t *testing.T, failure int) {
	bad := canned(t, fmt.Sprintf("HTTP/1.1 %d Such\r\nX-Why: busy\r\nContent-Length: 3\r\n\r\nbad", failure), false)
	good := canned(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
	var may atomic.Bool
	g := newRig(t, bad, func(r *Relay) {
		ups := []*Upstream{r.NewUpstream("bad", dialer(bad)), r.NewUpstream("good", dialer(good))}
		r.Route = func(h *Head) (*Upstream, error) { return ups[h.Attempt], nil }
		r.Again = func(h *Head, f *Failure) bool {
			if f.Flag != FlagStatus || f.Status != failure || string(f.Response.Get("x-why")) != "busy" || !f.Sent {
				t.Errorf("asked about %+v", f)
			}
			return may.Load()
		}
	})
	for _, again := range []bool{true, false} {
		may.Store(again)
		status, body := post(t, g.addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if want := map[bool]string{true: "200 ok", false: fmt.Sprint(failure, " bad")}[again]; fmt.Sprint(status, " ", body) != want {
			t.Errorf("again %v: %d %s", again, status, body)
		}
	}
}

// A route that is not known yet is asked for again, which is no attempt; who waits ends with the request's time, or its client.
func TestLater(t *testing.T) {
	up := canned(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
	resumes, asked := make(chan func(), 10), atomic.Int32{}
	g := newRig(t, up, func(r *Relay) {
		u := r.NewUpstream("up", dialer(up))
		r.Route = func(h *Head) (*Upstream, error) {
			asked.Add(1)
			if string(h.Target) == "/short" {
				h.Timeout = 100 * time.Millisecond
			}
			if h.Tag == nil {
				h.Tag = true
				return nil, &Later{Wait: func(resume func()) { resumes <- resume }}
			}
			if h.Attempt != 0 {
				t.Errorf("attempt %d", h.Attempt)
			}
			return u, nil
		}
	})
	go func() { (<-resumes)() }()
	if status, _ := post(t, g.addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); status != 200 || asked.Load() != 2 {
		t.Errorf("%d after %d questions", status, asked.Load())
	}
	begin := time.Now()
	if status, _ := post(t, g.addr, "GET /short HTTP/1.1\r\nHost: a\r\n\r\n"); status != 504 || time.Since(begin) > 5*time.Second {
		t.Errorf("%d after %v", status, time.Since(begin))
	}
	nc := dial(t, g.addr)
	io.WriteString(nc, "GET /gone HTTP/1.1\r\nHost: a\r\n\r\n")
	<-resumes
	<-resumes
	nc.Close()
	if o := g.outcome(t, 2); !o.ByClient {
		t.Errorf("%+v", o)
	}
}

// The bound of an attempt ends it and leaves time for another; that of the request ends all. The client connection goes on.
func TestBounds(t *testing.T) {
	hangs := rawUp(t, func(nc net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) })
	good := canned(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
	drips := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
		for _, err := nc.Write([]byte("x")); err == nil; _, err = nc.Write([]byte("x")) {
			time.Sleep(10 * time.Millisecond)
		}
	})
	g := newRig(t, hangs, func(r *Relay) {
		ups := []*Upstream{r.NewUpstream("hangs", dialer(hangs)), r.NewUpstream("good", dialer(good)), r.NewUpstream("drips", dialer(drips))}
		r.Again = func(h *Head, f *Failure) bool {
			return f.Flag == FlagTimeout && string(h.Target) == "/try" && h.Attempt == 0
		}
		r.Route = func(h *Head) (*Upstream, error) {
			switch string(h.Target) {
			case "/try":
				h.PerTry, h.Timeout = 100*time.Millisecond, 10*time.Second
				return ups[h.Attempt], nil
			case "/drip":
				h.Timeout = 200 * time.Millisecond
				return ups[2], nil
			}
			h.Timeout = 150 * time.Millisecond
			return ups[0], nil
		}
	})
	nc := dial(t, g.addr)
	br := bufio.NewReader(nc)
	for i, c := range []struct {
		target string
		status int
	}{{"/try", 200}, {"/all", 504}, {"/try", 200}, {"/drip", 200}} {
		begin := time.Now()
		fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", c.target)
		rp, err := http.ReadResponse(br, nil)
		if err != nil || rp.StatusCode != c.status {
			t.Fatal(i, rp, err)
		}
		_, err = io.ReadAll(rp.Body)
		if (err != nil) != (c.target == "/drip") {
			t.Error(i, err)
		}
		if took := time.Since(begin); took < 100*time.Millisecond || took > 5*time.Second {
			t.Errorf("%s after %v", c.target, took)
		}
	}
}

// No more connections than there may be lead to an instance; who waits for one gets it, or is told that it is busy.
func TestConnectionsAreBounded(t *testing.T) {
	release := make(chan bool)
	var now, most atomic.Int32
	up := httpUp(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		now.Add(-1)
	})
	g := newRig(t, up, func(r *Relay) { r.MaxConns, r.DialTimeout = 2, 300*time.Millisecond })
	statuses := make(chan int, 5)
	for range 5 {
		go func() {
			rp, err := client().Get("http://" + g.addr)
			if err != nil {
				statuses <- 0
				return
			}
			rp.Body.Close()
			statuses <- rp.StatusCode
		}()
	}
	for range 3 {
		if s := <-statuses; s != 429 {
			t.Errorf("status %d", s)
		}
	}
	close(release)
	for range 2 {
		if s := <-statuses; s != 200 {
			t.Errorf("status %d", s)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d connections", most.Load())
	}
	for range 10 { // the places are free again
		if rp, err := client().Get("http://" + g.addr); err != nil || rp.StatusCode != 200 {
			t.Fatal(rp, err)
		}
	}
	if s := g.Stats(); s.Upstream > 2 {
		t.Errorf("%+v", s)
	}
}

// A dial ends when nobody waits for it any longer.
func TestDialEndsWithItsClient(t *testing.T) {
	dialling, ended := make(chan bool, 1), make(chan error, 1)
	g := newRig(t, "", func(r *Relay) {
		r.DialTimeout = time.Minute
		u := r.NewUpstream("far", func(ctx context.Context) (net.Conn, error) {
			dialling <- true
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		})
		r.Route = func(h *Head) (*Upstream, error) {
			if string(h.Target) == "/short" {
				h.Timeout = 100 * time.Millisecond
			}
			return u, nil
		}
	})
	nc := dial(t, g.addr)
	io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-dialling
	nc.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if o := g.outcome(t, 0); !o.ByClient {
		t.Errorf("%+v", o)
	}
	status, body := post(t, g.addr, "GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
	if <-ended; status != 504 || !strings.Contains(body, ReasonTimeout) {
		t.Error(status, body)
	}
}

// What only sidecars may say does not pass in trailers, whichever way.
func TestReservedTrailers(t *testing.T) {
	up := httpUp(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Mesh-Secret, X-Saw")
		io.WriteString(w, "ok")
		w.Header().Set("Mesh-Secret", "s")
		w.Header().Set("X-Saw", fmt.Sprint(r.Trailer))
	})
	g := newRig(t, up, func(r *Relay) { r.Reserved = "mesh-" })
	rq, _ := http.NewRequest("POST", "http://"+g.addr, struct{ io.Reader }{bytes.NewReader([]byte("abc"))})
	rq.Trailer = http.Header{"Mesh_secret": {"a"}, "Mesh-Secret": {"b"}, "X-In": {"c"}}
	rp, err := client().Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, rp.Body)
	if saw := rp.Trailer.Get("X-Saw"); rp.Trailer.Get("Mesh-Secret") != "" || !strings.Contains(saw, "X-In:[c]") || strings.Contains(saw, "[a]") || strings.Contains(saw, "[b]") {
		t.Errorf("%v", rp.Trailer)
	}
}

// After Leave each connection ends with its next answer; Shutdown waits for what is under way and ends idle ones.
func TestLeave(t *testing.T) {
	t.Log("feature: http, draining lets calls end")
	release := make(chan bool)
	g := newRig(t, httpUp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
	}))
	idle, busy := dial(t, g.addr), dial(t, g.addr)
	br := bufio.NewReader(idle)
	io.WriteString(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if rp, err := http.ReadResponse(br, nil); err != nil || rp.Close {
		t.Fatal(rp, err)
	}
	io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	g.Leave()
	io.WriteString(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if rp, err := http.ReadResponse(br, nil); err != nil || !rp.Close {
		t.Fatal(rp, err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Shutdown(t.Context()) }()
	select {
	case err := <-done:
		t.Fatal("over with a request under way", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	if rp, err := http.ReadResponse(bufio.NewReader(busy), nil); err != nil || rp.StatusCode != 200 {
		t.Fatal(rp, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
