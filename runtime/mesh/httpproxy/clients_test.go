package httpproxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestClients(t *testing.T) {
	g := newRig(t, httpUp(t, echo))
	testClients(t, g, "http://"+g.addr, client())
}

func TestTLS(t *testing.T) {
	ts := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer ts.Close()
	hc := ts.Client()
	roots := hc.Transport.(*http.Transport).TLSClientConfig
	g := newRig(t, "", func(r *Relay) {
		u := r.NewUpstream("up.test", func(ctx context.Context) (net.Conn, error) {
			c := roots.Clone()
			c.ServerName = "example.com"
			return (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", ts.Listener.Addr().String())
		})
		r.Route = func(h *Head) (*Upstream, error) { return u, nil }
	})
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: ts.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go g.Serve(ln)
	testClients(t, g, "https://"+ln.Addr().String(), hc)
}

func testClients(t *testing.T, g *rig, base string, hc *http.Client) {
	big := make([]byte, 3<<20)
	rand.Read(big)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		for _, path := range []string{"/", "/204", "/304", "/flush", "/hints", "/trailers"} {
			for _, size := range []int{0, 1, 1000, 20000, 70000, len(big)} {
				for _, chunked := range []bool{false, true} {
					if size > 0 && (method == "GET" || method == "HEAD" || path == "/204" || path == "/304") {
						continue
					}
					name := fmt.Sprint(method, path, size, chunked)
					var body io.Reader = bytes.NewReader(big[:size])
					if chunked {
						body = struct{ io.Reader }{body}
					} else if size == 0 {
						body = nil
					}
					hints := 0
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
						if code == 103 && h.Get("Link") != "" {
							hints++
						}
						return nil
					}})
					rq, _ := http.NewRequestWithContext(ctx, method, base+path, body)
					rq.Header.Set("X-Id", name)
					if chunked {
						rq.Trailer = http.Header{"X-In": {"in"}}
					}
					rp, err := hc.Do(rq)
					if err != nil {
						t.Fatal(name, err)
					}
					b, err := io.ReadAll(rp.Body)
					rp.Body.Close()
					if err != nil || rp.Header.Get("X-Id") != name || rp.Header.Get("X-Method") != method {
						t.Fatal(name, err, rp.Header)
					}
					if want := big[:size]; method != "HEAD" && !bytes.Equal(b, want) {
						t.Fatal(name, len(b))
					}
					if path == "/hints" && hints != 1 {
						t.Fatal(name, "hints", hints)
					}
					if want := fmt.Sprint(size); path == "/trailers" && method != "HEAD" && size > 0 {
						if chunked {
							want += "in"
						}
						if got := rp.Trailer.Get("X-Sum"); got != want {
							t.Fatal(name, "trailer", got, want)
						}
					}
					if chunked && size > 0 && rp.Header.Get("X-Length") != "-1" || !chunked && size > 0 && rp.Header.Get("X-Length") != fmt.Sprint(size) {
						t.Fatal(name, "framing changed", rp.Header.Get("X-Length"))
					}
				}
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, o := range g.outs {
		if o.Err != nil {
			t.Error(i, o)
		}
	}
}

func TestOldAndPipelined(t *testing.T) {
	g := newRig(t, httpUp(t, echo))
	if s := raw(t, g.addr, "POST /flush HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"); !strings.HasSuffix(s, "\r\n\r\nabc") || strings.Contains(s, "chunked") {
		t.Errorf("%q", s)
	}
	s := raw(t, g.addr, "POST / HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabcPOST / HTTP/1.0\r\nContent-Length: 3\r\n\r\ndef")
	if strings.Count(s, "HTTP/1.1 200 OK") != 2 || strings.Count(s, "Connection: keep-alive") != 1 || !strings.HasSuffix(s, "def") {
		t.Errorf("%q", s)
	}
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "POST / HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n%d\r\n0\r\n\r\n", i, i%10)
		fmt.Fprintf(&b, "HEAD / HTTP/1.1\r\nHost: a\r\nX-Id: h%d\r\n\r\n", i)
	}
	nc := dial(t, g.addr)
	go io.WriteString(nc, b.String())
	br := bufio.NewReader(nc)
	for i := range 200 {
		rp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(rp.Body)
		if rp.Header.Get("X-Id") != fmt.Sprint(i) || string(b) != fmt.Sprint(i%10) {
			t.Fatal(i, rp.Header, string(b))
		}
		if rp, err = http.ReadResponse(br, &http.Request{Method: "HEAD"}); err != nil || rp.Header.Get("X-Id") != fmt.Sprint("h", i) {
			t.Fatal(i, err)
		}
	}
	// Byte by byte.
	nc = dial(t, g.addr)
	nc.SetNoDelay(true)
	for _, c := range []byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n") {
		nc.Write([]byte{c})
		time.Sleep(100 * time.Microsecond)
	}
	rp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(rp.Body); string(b) != "abcde" {
		t.Errorf("%q", b)
	}
}

func TestCloseDelimited(t *testing.T) {
	g := newRig(t, canned(t, "HTTP/1.0 200 OK\r\nX: y\r\n\r\nhello", true))
	hc := client()
	for range 3 {
		rp, err := hc.Get("http://" + g.addr)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(rp.Body); string(b) != "hello" || err != nil || rp.Close {
			t.Fatal(string(b), err, rp.Close)
		}
	}
	if s := raw(t, g.addr, "GET / HTTP/1.0\r\n\r\n"); s != "HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nhello" {
		t.Errorf("%q", s)
	}
}

func TestExpect(t *testing.T) {
	t.Log("feature: http, `Expect: 100-continue`")
	g := newRig(t, httpUp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(403)
			return
		}
		io.Copy(w, r.Body)
	}))
	nc := dial(t, g.addr)
	br := bufio.NewReader(nc)
	for range 3 {
		io.WriteString(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		if l, _ := br.ReadString('\n'); l != "HTTP/1.1 100 Continue\r\n" {
			t.Fatal(l)
		}
		br.ReadString('\n')
		io.WriteString(nc, "hello")
		rp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(rp.Body); string(b) != "hello" {
			t.Fatal(b)
		}
	}
	io.WriteString(nc, "POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if rp, err := http.ReadResponse(br, nil); err != nil || rp.StatusCode != 403 || !rp.Close {
		t.Fatal(err)
	}
	io.WriteString(nc, "GET / HTTP/1.1\r\nHost: evil\r\n\r\n") // where the body should be
	if b, _ := io.ReadAll(br); len(b) > 0 {
		t.Fatalf("%q", b)
	}
}

func TestThousand(t *testing.T) {
	g := newRig(t, httpUp(t, echo))
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			nc, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			br := bufio.NewReaderSize(nc, 512)
			for k := range 10 {
				id := fmt.Sprint(i, "-", k)
				fmt.Fprintf(nc, "POST / HTTP/1.1\r\nHost: a\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(id), id)
				rp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if b, _ := io.ReadAll(rp.Body); string(b) != id || rp.Header.Get("X-Id") != id {
					t.Error(id, string(b))
					return
				}
			}
		}()
	}
	wg.Wait()
	if err := g.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}
