package httpproxy

import (
	"bufio"
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// TestIdle: a connection between requests holds no buffers; a request allocates nothing.
func TestIdle(t *testing.T) {
	g := newRig(t, canned(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false))
	var before, after runtime.MemStats
	nc := dial(t, g.addr)
	br := bufio.NewReader(nc)
	do := func() {
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		rp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, rp.Body)
	}
	do()
	conns := make([]io.Closer, 0, 500)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 500 {
		c := dial(t, g.addr)
		conns = append(conns, c)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		b := make([]byte, 256)
		c.Read(b)
	}
	time.Sleep(50 * time.Millisecond)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := int64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse) / 500; n > 20<<10 {
		t.Error("idle connections hold", n, "bytes")
	}
	for _, c := range conns {
		c.Close()
	}
}
