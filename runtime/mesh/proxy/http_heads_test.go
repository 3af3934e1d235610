package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// What one sidecar takes, at its limits, another one takes with what the first has added to it: no instance is blamed for an answer that its own
// sidecar let through.
func TestHeadsAtTheirLimits(t *testing.T) {
	const fields, size = 128, 16 << 10
	many := strings.Repeat("a: b\r\n", fields-3)
	head := func(first string, length int) string { // with one field more that makes it as long
		return first + "x: " + strings.Repeat("x", length-len(first)-len("x: \r\n\r\n")) + "\r\n\r\n"
	}
	const request, answer = "GET /a HTTP/1.1\r\nHost: stock\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
	for name, c := range map[string]struct {
		request, answer string
		status          int
	}{
		"fields of a request": {request + many + "c: d\r\ne: f\r\n\r\n", answer + "\r\n", 200}, "one more": {request + many + "c: d\r\ne: f\r\ng: h\r\n\r\n", answer + "\r\n", 400},
		"bytes of a request": {head(request, size), answer + "\r\n", 200}, "one byte more": {head(request, size+1), answer + "\r\n", 431},
		"fields of an answer": {request + "\r\n", answer + many + "c: d\r\ne: f\r\n\r\n", 200}, "one more of an answer": {request + "\r\n", answer + many + "c: d\r\ne: f\r\ng: h\r\n\r\n", 502},
		"bytes of an answer": {request + "\r\n", head(answer, size), 200}, "one byte more of an answer": {request + "\r\n", head(answer, size+1), 502},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			over := make(chan struct{})
			go func() {
				defer close(over)
				for {
					nc, err := ln.Accept()
					if err != nil {
						return
					}
					if _, err := http.ReadRequest(bufio.NewReader(nc)); err == nil {
						io.WriteString(nc, c.answer)
					}
					nc.Close()
				}
			}()
			t.Cleanup(func() { ln.Close(); <-over })
			in := httpIn(t, ln.Addr().String(), &mesh.Gate{Concurrency: 9, MaxHops: 16}, &monitor{})
			e := &engine{addresses: []string{in}}
			if rp, body := ask(t, httpOut(t, e, &monitor{}), c.request); rp.StatusCode != c.status {
				t.Errorf("%d %s, want %d", rp.StatusCode, body, c.status)
			}
			if c.status == 200 {
				e.reported(t, in+" answered")
			}
		})
	}
}
