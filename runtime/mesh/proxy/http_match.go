package proxy

import (
	"net"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/httpproxy"
)

// HTTPProtocol serves connections of HTTP/1.1 with r.
func HTTPProtocol(r *httpproxy.Relay) Protocol {
	return Protocol{Name: "http", Match: HTTP1, Serve: func(nc net.Conn, head []byte) { r.ServeConn(nc, head) }}
}

// HTTP1 matches the begin of a request of HTTP/1.1: a method, which is in capitals, and a space. That of HTTP/2 is not one.
func HTTP1(head []byte) Verdict {
	for i, c := range head {
		switch {
		case c >= 'A' && c <= 'Z' || c == '-' || c == '_':
		case c == ' ' && i > 0 && string(head[:i]) != "PRI":
			return Yes
		default:
			return No
		}
	}
	if len(head) >= helloSize { // no method is that long
		return No
	}
	return More
}
