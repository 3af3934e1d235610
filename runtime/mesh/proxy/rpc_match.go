package proxy

import (
	"net"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

// Bolt matches connections that begin with a request or a heartbeat of Bolt, version 1 or 2.
func Bolt(head []byte) (v Verdict) {
	for _, begin := range [...]string{"\x01\x01\x00\x01", "\x01\x01\x00\x00", "\x01\x02\x00\x01", // type, command
		"\x02\x01\x01\x00\x01", "\x02\x01\x01\x00\x00", "\x02\x01\x02\x00\x01", "\x02\x02\x01\x00\x01", "\x02\x02\x01\x00\x00", "\x02\x02\x02\x00\x01"} {
		v = max(v, Prefix(begin)(head)) // those that need more of it are of one length, so that none says yes besides
	}
	return v
}

// Dubbo matches connections that begin with a frame of Dubbo 2.
func Dubbo(head []byte) Verdict { return Prefix("\xda\xbb")(head) }

// RPCProtocols are the framed protocols that a relay serves.
func RPCProtocols(r *rpcproxy.Relay, codecs map[string]rpcproxy.Codec) (all []Protocol) {
	for name, match := range map[string]func([]byte) Verdict{"bolt": Bolt, "dubbo": Dubbo} {
		if codec := codecs[name]; codec != nil {
			all = append(all, Protocol{Name: name, Match: match, Serve: func(nc net.Conn, head []byte) { r.ServeConn(nc, head, codec) }})
		}
	}
	return all
}
