package httpproxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// An answer that comes before the body, from a server that will not read it, tells the client that the connection ends: it would send its next
// request where the body should be, or after it to nobody.
func TestEarlyAnswerEndsTheConnection(t *testing.T) {
	for name, c := range map[string]struct{ head, answer string }{
		"not asked for the body": {"Expect: 100-continue\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"},
		"the server closes":      {"", "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rawUp(t, func(nc net.Conn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err == nil {
					io.WriteString(nc, c.answer)
					io.Copy(io.Discard, br)
				}
			}))
			nc := dial(t, g.addr)
			br := bufio.NewReader(nc)
			io.WriteString(nc, "POST / HTTP/1.1\r\nHost: a\r\n"+c.head+"Content-Length: 50\r\n\r\n")
			rp, err := http.ReadResponse(br, nil)
			if err == nil && rp.StatusCode == http.StatusEarlyHints {
				rp, err = http.ReadResponse(br, nil)
			}
			if err != nil || rp.StatusCode < 400 || !rp.Close {
				t.Fatalf("%+v, %v", rp, err)
			}
			if rest, err := io.ReadAll(br); err != nil || len(rest) != int(rp.ContentLength) {
				t.Errorf("%q, %v", rest, err)
			}
			nc.CloseWrite()
			if o := g.outcome(t, 0); (o.Err != nil) != (c.head == "") { // not to be asked for the body is no failure
				t.Errorf("%+v", o)
			}
		})
	}
}

// secondFails is a connection whose second write fails.
type secondFails struct {
	net.Conn
	writes        int
	first, failed chan struct{}
}

func (w *secondFails) Write(p []byte) (int, error) {
	switch w.writes++; w.writes {
	case 1:
		defer close(w.first)
	case 2:
		close(w.failed)
		return 0, syscall.EPIPE
	}
	return w.Conn.Write(p)
}

// A connection that has failed under the last of a body is not used again, though its answer was complete.
func TestFailedConnectionIsNotKept(t *testing.T) {
	first, failed := make(chan struct{}), make(chan struct{})
	var dials atomic.Int32
	up := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if r.Method == "POST" {
				<-failed
			}
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := newRig(t, "", func(r *Relay) {
		u := r.NewUpstream("up.test", func(ctx context.Context) (net.Conn, error) {
			nc, err := dialer(up)(ctx)
			if dials.Add(1) == 1 {
				nc = &secondFails{Conn: nc, first: first, failed: failed}
			}
			return nc, err
		})
		r.Route = func(h *Head) (*Upstream, error) { return u, nil }
	})
	nc := dial(t, g.addr)
	io.WriteString(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
	<-first
	io.WriteString(nc, "llo")
	if rp, err := http.ReadResponse(bufio.NewReader(nc), nil); err != nil || rp.StatusCode != 200 {
		t.Fatal(rp, err)
	}
	nc.CloseWrite()
	g.outcome(t, 0)
	if s := raw(t, g.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(s, "HTTP/1.1 200") {
		t.Error(s)
	}
	if o := g.outcome(t, 1); o.Attempts != 1 {
		t.Errorf("%+v", o)
	}
}

// A status that tells of a failure leads to another attempt also while the body is still to come; if more of that comes meanwhile than is kept,
// it cannot.
func TestAgainByStatusBeforeTheBody(t *testing.T) {
	var read atomic.Int64
	much := make(chan struct{})
	bad := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.WriteString(nc, "HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\nbad")
		b := make([]byte, 4096)
		for {
			n, err := r.Body.Read(b)
			if was := read.Add(int64(n)) - int64(n); was < 80<<10 && was+int64(n) >= 80<<10 {
				close(much)
			}
			if err != nil {
				return
			}
		}
	})
	good := httpUp(t, echo)
	asked := make(chan struct{}, 1)
	g := newRig(t, "", func(r *Relay) {
		ups := []*Upstream{r.NewUpstream("bad", dialer(bad)), r.NewUpstream("good", dialer(good))}
		r.Route = func(h *Head) (*Upstream, error) { return ups[h.Attempt], nil }
		r.Again = func(h *Head, f *Failure) bool {
			if h.Attempt > 0 {
				return false
			}
			asked <- struct{}{}
			if string(h.Target) == "/much" {
				<-much
			}
			return true
		}
	})
	for i, c := range []struct {
		name, head, begin, rest string
		status                  int
	}{
		{"late", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "", "hello", 200},
		{"begun", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\nhe\r\n3\r\nl", "lo\r\n0\r\n\r\n", 200},
		{"expected", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "", "hello", 200},
		{"too much", "POST /much HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "", "19000\r\n" + strings.Repeat("a", 100<<10), 503},
	} {
		nc := dial(t, g.addr)
		br := bufio.NewReader(nc)
		io.WriteString(nc, c.head+c.begin)
		<-asked
		go io.WriteString(nc, c.rest)
		rp, err := http.ReadResponse(br, nil)
		if err == nil && rp.StatusCode == http.StatusContinue {
			rp, err = http.ReadResponse(br, nil)
		}
		if err != nil || rp.StatusCode != c.status {
			t.Fatal(c.name, rp, err)
		}
		if b, _ := io.ReadAll(rp.Body); c.status == 200 && string(b) != "hello" || c.status != 200 && !strings.Contains(string(b), ReasonLost) {
			t.Errorf("%s: %q", c.name, b)
		}
		nc.CloseWrite()
		if o := g.outcome(t, i); (o.Flag == "") != (c.status == 200) || (o.Err == nil) != (c.status == 200) && c.status == 200 {
			t.Errorf("%s: %+v", c.name, o)
		}
	}
}
