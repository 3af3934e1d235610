package httpproxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
)

// FuzzRequest: what goes upstream for a head that the parser takes must mean to net/http what the parser took it for, and a second parse
// must give the same bytes. A head that both take must have the same framing, method and Host.
func FuzzRequest(f *testing.F) {
	for _, c := range bad {
		f.Add([]byte(c.raw))
	}
	f.Add([]byte("POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: x, TE\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"))
	f.Add([]byte("GET http://a:80/x HTTP/1.1\r\nHost: b\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"))
	f.Add([]byte("PUT / HTTP/1.0\r\nContent-Length: 4\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\nabcd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		at := 0
		end, err := headEnd(b, &at)
		if err != nil || end == 0 {
			return
		}
		var h, h2 Head
		if h.parseRequest(b[:end:end]) != nil || h.Method == "CONNECT" {
			return
		}
		s := &stream{buf: append([]byte(nil), b[end:]...), w: len(b) - end}
		var in body
		m := none
		if h.chunked {
			m = chunked
		} else if h.length > 0 {
			m = fixed
		}
		in.init(m, h.length, h.chunked)
		out := h.appendRequest(nil, "up")
		head := len(out)
		out, _, err = in.take(out, s)
		if err != nil {
			return
		}
		// The original as net/http reads it.
		if rq, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b))); err == nil {
			same(t, "original", rq, &h, b)
			if in.done {
				want, err := io.ReadAll(rq.Body)
				if err != nil {
					t.Fatalf("net/http cannot read the body: %v %q", err, b)
				}
				if int64(len(want)) != in.n {
					t.Fatalf("body of %d, to net/http of %d: %q", in.n, len(want), b)
				}
			}
		}
		// What goes out as net/http reads it.
		rd := bufio.NewReader(bytes.NewReader(out))
		rq, err := http.ReadRequest(rd)
		if err != nil {
			if httpStricter(out[:head]) {
				return
			}
			t.Fatalf("net/http refuses what goes out: %v %q", err, out)
		}
		same(t, "output", rq, &h, out)
		if in.done {
			got, err := io.ReadAll(rq.Body)
			if err != nil || int64(len(got)) != in.n {
				t.Fatalf("%v body %d, not %d: %q", err, len(got), in.n, out)
			}
			if rest, _ := io.ReadAll(rd); len(rest) > 0 {
				t.Fatalf("%q is left over: a second request", rest)
			}
		}
		at = 0
		end2, err := headEnd(out, &at)
		if err != nil || end2 != head {
			t.Fatal(end2, head, err)
		}
		if err := h2.parseRequest(out[:end2:end2]); err != nil {
			t.Fatalf("%v %q", err, out)
		}
		if again := h2.appendRequest(nil, "up"); !bytes.Equal(again, out[:head]) {
			t.Fatalf("%q\n%q", again, out[:head])
		}
	})
}

// httpStricter: net/http parses URLs, which is not the relay's business.
func httpStricter(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	f := bytes.Fields(line)
	if len(f) == 3 {
		if _, err := http.NewRequest("GET", string(f[1]), nil); err != nil {
			return true
		}
		_, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(append(append([]byte("GET "), f[1]...), " HTTP/1.1\r\nHost: a\r\n\r\n"...))))
		return err != nil
	}
	return false
}

func same(t *testing.T, what string, rq *http.Request, h *Head, b []byte) {
	want := int64(0)
	if h.chunked {
		want = -1
	} else if h.length > 0 {
		want = h.length
	}
	chunk := len(rq.TransferEncoding) > 0
	if rq.Method != h.Method || rq.ContentLength != want || chunk != h.chunked {
		t.Fatalf("%s: net/http reads %s %d %v, the relay %s %d: %q", what, rq.Method, rq.ContentLength, rq.TransferEncoding, h.Method, want, b)
	}
	if h.Host != nil && rq.Host != string(h.Host) && !(len(rq.Host) == 0) {
		t.Fatalf("%s: Host %q and %q: %q", what, rq.Host, h.Host, b)
	}
}

// FuzzResponse: likewise for responses.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 304\r\nContent-Length: 3\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		at := 0
		end, err := headEnd(b, &at)
		if err != nil || end == 0 {
			return
		}
		var h Head
		if h.parseResponse(b[:end:end]) != nil || h.status < 200 {
			return
		}
		out := h.appendResponse(nil, h.length, h.chunked, "")
		for _, x := range [][]byte{b, out} {
			rp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(x)), nil)
			if err != nil {
				if &x[0] == &out[0] {
					t.Fatalf("net/http refuses what goes out: %v %q", err, x)
				}
				continue
			}
			if h.status == 204 || h.status == 304 {
				continue
			}
			if rp.StatusCode != h.status || !h.chunked && rp.ContentLength != h.length || (len(rp.TransferEncoding) > 0) != h.chunked {
				t.Fatalf("net/http reads %d %d %v: %q", rp.StatusCode, rp.ContentLength, rp.TransferEncoding, x)
			}
		}
	})
}

func BenchmarkHead(b *testing.B) {
	rq := []byte("POST /echo HTTP/1.1\r\nHost: bench.local\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nX-Request-Id: 0123456789abcdef\r\nContent-Type: application/octet-stream\r\nContent-Length: 1024\r\n\r\n")
	var h Head
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		at := 0
		end, _ := headEnd(rq, &at)
		if h.parseRequest(rq[:end]) != nil {
			b.Fatal()
		}
		out = h.appendRequest(out[:0], "")
	}
}
