package proxy_test

import (
	"net"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

// unreadable is a request of which nobody can tell what it is for: Bolt's names no service, Dubbo's is of another serialization.
func unreadable(d rpctest.Dialect, oneway bool) []byte {
	if d.Name() == "dubbo" {
		frame := d.Request(1, oneway, time.Second, "m", "")
		frame[2] = frame[2]&^0x1f | 6
		return frame
	}
	frame := append([]byte{1, 1, 0, 1, 1, 0, 0, 0, 1, 1}, make([]byte, 12)...)
	if oneway {
		frame[1] = 2
	}
	return frame
}

// What the relay refuses by itself is told of once, as all other requests are.
func TestRefusedRequestsOfRPCAreTold(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		codecs := map[string]rpcproxy.Codec{d.Name(): d}
		for _, c := range []struct {
			frame   []byte
			oneway  bool
			held    int64 // bytes of requests
			flag    string
			code    int
			service string
		}{
			{unreadable(d, false), false, 0, "protocol", 3, ""}, {unreadable(d, true), true, 0, "protocol", 3, ""},
			{d.Request(1, false, time.Second, "m", ""), false, 1, "limited", 8, "peer.Hello"},
		} {
			for _, direction := range []string{"inbound", "outbound"} {
				m, r := &monitor{}, &rpcproxy.Relay{MaxHeld: c.held}
				if direction == "inbound" {
					(&proxy.RPCInbound{Gate: &mesh.Gate{Concurrency: 9, MaxHops: 16}, Monitor: m, App: components.Caller{Namespace: "shop", App: "stock"}, Codecs: codecs,
						Port: func(mesh.Service) (int, bool) { t.Error("it came in"); return 0, false }}).Bind(r)
				} else {
					(&proxy.RPCOutbound{Engine: &engine{}, Monitor: m, Caller: caller, Codecs: codecs}).Bind(r)
				}
				nc, err := net.Dial("tcp", listenRPC(t, r, d, nil))
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(20 * time.Second))
				w := &rpctest.Wire{Conn: nc, Dialect: d}
				w.Write(c.frame)
				if !c.oneway {
					if _, err := w.Next(); err != nil {
						t.Fatal(err)
					}
				}
				got := m.all(t, 1)[0]
				if got.Direction != direction || got.Protocol != d.Name() || got.Flag != c.flag || got.Code != c.code || got.Service.Name != c.service || got.Upstream != "" || got.Attempts != 0 {
					t.Errorf("%s, want %+v: %+v", direction, c, got)
				}
			}
		}
	})
}
