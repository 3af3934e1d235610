package httpproxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Each of these must be refused before anything goes upstream.
var bad = []struct{ name, raw string }{
	{"CL+TE", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX"},
	{"TE+CL", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX"},
	{"two CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nContent-Length: 5\r\n\r\nabcdef"},
	{"two same CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"},
	{"CL list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde"},
	{"CL plus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde"},
	{"CL minus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nabcde"},
	{"CL hex", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nabcde"},
	{"CL empty", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabcde"},
	{"CL space inside", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\nabcde"},
	{"CL float", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nabcde"},
	{"CL underscore digits", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\nabcde"},
	{"CL overflow", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nabcde"},
	{"CL unicode digits", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xef\xbc\x95\r\n\r\nabcde"},
	{"Content_Length", "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\nabcde"},
	{"Transfer_Encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"two TE", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"TE identity first", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"TE list", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
	{"TE identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc"},
	{"TE gzip", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
	{"TE xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
	{"TE quoted", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"},
	{"TE empty", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"},
	{"TE vtab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"},
	{"TE parameter", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"},
	{"TE in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"TE space before colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"},
	{"TE tab before colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"},
	{"TE leading space", "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"TE bare LF before", "POST / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"TE bare CR before", "POST / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"TE NUL", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n"},
	{"TE obs-fold", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"},
	{"obs-fold", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"},
	{"obs-fold first", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"},
	{"LF only", "GET / HTTP/1.1\nHost: a\n\n"},
	{"LF line", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"},
	{"LF end", "GET / HTTP/1.1\r\nHost: a\r\n\n"},
	{"CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"},
	{"NUL in name", "GET / HTTP/1.1\r\nHost: a\r\nX\x00Y: b\r\n\r\n"},
	{"NUL in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n"},
	{"DEL in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n"},
	{"ESC in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x1bb\r\n\r\n"},
	{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n"},
	{"empty name", "GET / HTTP/1.1\r\nHost: a\r\n: v\r\n\r\n"},
	{"space in name", "GET / HTTP/1.1\r\nHost: a\r\nX Y: v\r\n\r\n"},
	{"non-ASCII name", "GET / HTTP/1.1\r\nHost: a\r\nX\xe9: v\r\n\r\n"},
	{"two Host", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
	{"two same Host", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
	{"no Host", "GET / HTTP/1.1\r\nX: y\r\n\r\n"},
	{"Host space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
	{"Host comma", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"},
	{"Host slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
	{"Host userinfo", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"},
	{"absolute userinfo", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"absolute no host", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"absolute scheme", "GET gopher://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"authority form", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"star GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"two spaces after", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"space in target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"CR in target", "GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"NUL in target", "GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"8-bit in target", "GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"space first", " GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"trailing space", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"},
	{"HTTP/0.9", "GET /\r\n\r\n"},
	{"lower http", "GET / http/1.1\r\nHost: a\r\n\r\n"},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"},
	{"HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n"},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	{"TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"},
	{"method CTL", "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"head too large", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 17<<10) + "\r\n\r\n"},
	{"line too large", "GET /" + strings.Repeat("a", 17<<10)},
	{"too many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n"},
	{"too many tokens", "GET / HTTP/1.1\r\nHost: a\r\nConnection: " + strings.Repeat("a,", 200) + "\r\n\r\n"},
	{"CONNECT path", "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"CONNECT no port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"CONNECT body", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"},
	{"TRACE body", "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"},
	{"Expect", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 3\r\n\r\nabc"},
	{"chunk size empty", chunkHead + "\r\nabc\r\n0\r\n\r\n"},
	{"chunk size 0x", chunkHead + "0x3\r\nabc\r\n0\r\n\r\n"},
	{"chunk size plus", chunkHead + "+3\r\nabc\r\n0\r\n\r\n"},
	{"chunk size minus", chunkHead + "-3\r\nabc\r\n0\r\n\r\n"},
	{"chunk size space", chunkHead + "3 \r\nabc\r\n0\r\n\r\n"},
	{"chunk size lead space", chunkHead + " 3\r\nabc\r\n0\r\n\r\n"},
	{"chunk size overflow", chunkHead + "10000000000000003\r\nabc\r\n0\r\n\r\n"},
	{"chunk size LF", chunkHead + "3\nabc\r\n0\r\n\r\n"},
	{"chunk size CR", chunkHead + "3\rabc\r\n0\r\n\r\n"},
	{"chunk ext LF", chunkHead + "3;a\nabc\r\n0\r\n\r\n"},
	{"chunk ext CR", chunkHead + "3;a\rb\r\nabc\r\n0\r\n\r\n"},
	{"chunk ext NUL", chunkHead + "3;a\x00\r\nabc\r\n0\r\n\r\n"},
	{"chunk ext long", chunkHead + "3;" + strings.Repeat("a", 2000) + "\r\nabc\r\n0\r\n\r\n"},
	{"chunk no CRLF", chunkHead + "3\r\nabcd\r\n0\r\n\r\n"},
	{"chunk LF after", chunkHead + "3\r\nabc\n0\r\n\r\n"},
	{"chunk short", chunkHead + "3\r\nab\r\n0\r\n\r\n"},
	{"trailer LF", chunkHead + "0\r\nX: y\n\r\n"},
	{"trailer fold", chunkHead + "0\r\nX: y\r\n z\r\n\r\n"},
	{"trailer space colon", chunkHead + "0\r\nX : y\r\n\r\n"},
	{"trailer end LF", chunkHead + "0\r\n\n"},
}

const chunkHead = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

func TestBadRequests(t *testing.T) {
	t.Log("feature: http, what is broken, garbage or too slow costs its own connection alone")
	var seen atomic.Int32
	up := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		for {
			b := make([]byte, 4096)
			n, err := br.Read(b)
			if n > 0 {
				seen.Add(1)
				t.Errorf("upstream got %q", b[:n])
			}
			if err != nil {
				return
			}
		}
	})
	g := newRig(t, up, func(r *Relay) {
		r.HeadTimeout = 300 * time.Millisecond
		none, good := r.NewUpstream("up.test", dialer(up)), r.NewUpstream("good", dialer(httpUp(t, echo)))
		r.Route = func(h *Head) (*Upstream, error) {
			if string(h.Host) == "good" {
				return good, nil
			}
			return none, nil
		}
	})
	still := dial(t, g.addr) // what others send costs it nothing
	answers := bufio.NewReader(still)
	t.Log(len(bad), "cases")
	for _, c := range bad {
		s := raw(t, g.addr, c.raw+"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
		if len(s) < 12 || s[9] != '4' && s[:12] != "HTTP/1.1 505" && s[:12] != "HTTP/1.1 501" || s[:12] == "HTTP/1.1 408" || strings.Count(s, "HTTP/1.1 ") != 1 || !strings.Contains(s, "Connection: close\r\n") {
			t.Errorf("%s: %q", c.name, s)
		}
		io.WriteString(still, "POST / HTTP/1.1\r\nHost: good\r\nContent-Length: 5\r\n\r\nstill")
		rp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("after %s the others are answered: %v", c.name, err)
		}
		if b, err := io.ReadAll(rp.Body); err != nil || string(b) != "still" || rp.Close {
			t.Errorf("after %s the others are answered %q, %v", c.name, b, err)
		}
	}
}

// What goes upstream for heads that are allowed, though odd.
func TestRewrite(t *testing.T) {
	got := make(chan string, 1)
	up := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		for {
			s := ""
			for !strings.HasSuffix(s, "\r\n\r\n") {
				l, err := br.ReadString('\n')
				if s += l; err != nil {
					return
				}
			}
			got <- s
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	var cur atomic.Pointer[Upstream]
	g := newRig(t, up, func(r *Relay) { r.Route = func(h *Head) (*Upstream, error) { return cur.Load(), nil } })
	cur.Store(g.up)
	for _, c := range [][2]string{
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"\r\nGET / HTTP/1.1\r\nhOST:\ta \r\nX:  y\t \r\nZ:\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nZ: \r\n\r\n"},
		{"GET http://b:81?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?q HTTP/1.1\r\nHost: b:81\r\n\r\n"},
		{"OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n"},
		{"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: up.test\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Secret, keep-alive, Content-Length, Host\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: y\r\nTE: gzip\r\nTE: trailers\r\nX: z\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX: z\r\nConnection: TE\r\nTE: trailers\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: x\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket, H2C\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
		{"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 000\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
		{"POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-encoding:  Chunked \r\nTrailer: X\r\n\r\n0\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"},
	} {
		nc := dial(t, g.addr)
		io.WriteString(nc, c[0])
		if s := <-got; s != c[1] {
			t.Errorf("%q:\n got %q\nwant %q", c[0], s, c[1])
		}
		nc.Close()
		cur.Load().Close()
		cur.Store(g.NewUpstream("up.test", dialer(up)))
	}
}

func TestBadResponses(t *testing.T) {
	for name, s := range map[string]string{
		"CL+TE": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "two CL": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"CL bad": "HTTP/1.1 200 OK\r\nContent-Length: 3x\r\n\r\nabc", "TE gzip": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
		"TE 1.0": "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "LF": "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"fold": "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n", "version": "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "status": "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
		"status 4": "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", "garbage": "hello, I am no server\r\n\r\n", "NUL": "HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 0\r\n\r\n",
		"101 unasked": "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "1xx body": "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/",
		"large": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 17<<10) + "\r\n\r\n", "nothing": "", "half": "HTTP/1.1 200 OK\r\nConte",
		"1xx flood": strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100), "space colon": "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
	} {
		g := newRig(t, canned(t, s, true))
		got := raw(t, g.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		got = strings.ReplaceAll(got, "HTTP/1.1 102 Processing\r\n\r\n", "")
		if !strings.HasPrefix(got, "HTTP/1.1 502 ") || strings.Count(got, "HTTP/1.1 ") != 1 {
			t.Errorf("%s: %q", name, got)
		}
		if strings.Contains(got, "16384 bytes") != (name == "large") {
			t.Errorf("%s is said to be %q", name, got)
		}
	}
}

// A response with more behind it must not be taken for the next one's.
func TestExtraBytes(t *testing.T) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"} {
		g := newRig(t, canned(t, s, false))
		nc := dial(t, g.addr)
		br := bufio.NewReader(nc)
		for range 5 {
			io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			rp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(rp.Body); bytes.Contains(b, []byte("evil")) {
				t.Fatal("poisoned")
			}
		}
	}
}
