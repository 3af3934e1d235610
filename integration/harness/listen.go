package harness

import (
	"net"
	"testing"
)

// Listen serves each connection by handle, on a free port, until the test ends.
func Listen(t testing.TB, handle func(net.Conn)) (port int) {
	t.Helper()
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
			go func() {
				defer nc.Close()
				handle(nc)
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).Port
}
