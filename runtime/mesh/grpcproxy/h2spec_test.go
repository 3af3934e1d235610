//go:build h2spec

package grpcproxy

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/net/http2"
)

// TestH2Spec runs the h2spec tool, whose path is in OUTRIGGER_H2SPEC, against a relay before an ordinary HTTP/2 server.
func TestH2Spec(t *testing.T) {
	tool := os.Getenv("OUTRIGGER_H2SPEC")
	if tool == "" {
		t.Fatal("OUTRIGGER_H2SPEC must name the tool; make h2spec builds it")
	}
	e := newEnv(t, nil)
	ln := listen(t)
	defer ln.Close()
	go serveHTTP2(ln)
	web := e.r.NewUpstream("web", 1, tcp(ln.Addr().String()))
	e.r.Route = func(*Headers) (*Upstream, error) { return web, nil }
	_, port, _ := net.SplitHostPort(e.addr)
	out, err := exec.Command(tool, "-h", "127.0.0.1", "-p", port, "-o", "2").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out[max(0, len(out)-300):])
}

func serveHTTP2(ln net.Listener) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			w.Write([]byte("hello"))
		}
	})
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		go (&http2.Server{}).ServeConn(nc, &http2.ServeConnOpts{Handler: h})
	}
}
