package proxy_test

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

var sniffers = map[string]func([]byte) proxy.Verdict{"grpc": proxy.Prefix(proxy.HTTP2), "bolt": proxy.Bolt, "dubbo": proxy.Dubbo}

func TestFirstBytesTellTheProtocol(t *testing.T) {
	t.Log("feature: grpc bolt dubbo, told apart by its first bytes, on one port")
	for _, d := range []rpctest.Dialect{rpctest.Bolt, rpctest.Dubbo} {
		for _, frame := range [][]byte{d.Request(1, false, 0, "m", ""), d.Request(1, true, 0, "m", ""), d.Beat} {
			for name, match := range sniffers {
				want := proxy.No
				if name == d.Name() {
					want = proxy.Yes
				}
				if got := match(frame[:16]); got != want {
					t.Errorf("%q is of %s: %v, want %v", frame[:16], name, got, want)
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
