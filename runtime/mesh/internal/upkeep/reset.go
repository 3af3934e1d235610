package upkeep

import "net"

// Reset ends a connection so that the other side takes it for no orderly end.
func Reset(nc net.Conn) {
	for inner := nc; ; {
		if tcp, ok := inner.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			tcp.Close() // before TLS says that it is one
			break
		}
		in, ok := inner.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		inner = in.NetConn()
	}
	nc.Close()
}
