package proxy_test

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

var sniffers = map[string]func([]byte) proxy.Verdict{"grpc": proxy.Prefix(proxy.HTTP2), "http": proxy.HTTP1, "bolt": proxy.Bolt, "dubbo": proxy.Dubbo, "tcp": proxy.TCP}

func TestFirstBytesTellTheProtocol(t *testing.T) {
	t.Log("feature: grpc bolt dubbo, told apart by its first bytes, on one port")
	begins := map[string][][]byte{"grpc": {[]byte("PRI * HTTP/2.0\r\n")}, "http": {[]byte("GET / HTTP/1.1\r\n"), []byte("PRIVET /x HTTP/1.1")}, "tcp": {[]byte("\x00tcp/1 shop/stock shop/orders 1")}}
	for _, d := range []rpctest.Dialect{rpctest.Bolt, rpctest.Dubbo} {
		begins[d.Name()] = [][]byte{d.Request(1, false, 0, "m", ""), d.Request(1, true, 0, "m", ""), d.Beat}
	}
	for of, all := range begins {
		for _, begin := range all {
			for name, match := range sniffers {
				want := proxy.No
				if name == of {
					want = proxy.Yes
				}
				if got := match(begin[:16]); got != want {
					t.Errorf("%q is of %s: %v, want %v", begin[:16], name, got, want)
				}
			}
		}
	}
}

// No connection is of two protocols, and what more bytes are needed for is decided before the first ones are used up.
func FuzzFirstBytes(f *testing.F) {
	f.Add([]byte("\x01\x01\x00\x01\x01"))
	f.Add([]byte("\x02\x02\x02\x00\x01\x01"))
	f.Add([]byte("\xda\xbb"))
	f.Add([]byte("PRI * HTTP/2.0"))
	f.Add([]byte("GET / HTTP/1.1"))
	f.Add([]byte("UPDATEREDIRECTREFUPDATER"))
	f.Add([]byte("\x00tcp/1 "))
	f.Fuzz(func(t *testing.T, head []byte) {
		yes := ""
		for name, match := range sniffers {
			switch v := match(head); {
			case v == proxy.Yes && yes != "":
				t.Fatalf("%q is of %s and of %s", head, name, yes)
			case v == proxy.Yes:
				yes = name
			case v == proxy.More && len(head) >= 24:
				t.Fatalf("%q is not enough for %s", head, name)
			}
		}
	})
}
