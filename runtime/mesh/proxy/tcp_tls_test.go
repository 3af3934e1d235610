package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// Connections of TCP go between sidecars by mutual TLS as requests do: each side ends for itself, what is broken off is so at the other side, the
// caller is who its certificate says, and one whose certificate nobody here has signed, or that has none, reaches no application.
func TestMutualTLSOfTCP(t *testing.T) {
	t.Log("feature: tcp, mutual TLS between sidecars; the certificate says who calls")
	ca, other := newAuthority(t), newAuthority(t)
	var calls atomic.Int64
	theirs := &monitor{}
	to := tcpInSecure(t, portAt(greeter(t, &calls)), &gate{}, theirs, &proxy.Secure{Identity: ca.store(t, stockID, later, ca), Only: true})
	from := func(d *proxy.Dialer) (at string, ours *monitor) {
		ours = &monitor{}
		at, _ = tcpOutBy(t, &engine{addresses: []string{to}}, ours, "db", func(ctx context.Context, in *mesh.Instance) (net.Conn, error) {
			return d.Dial(ctx, in, mesh.TCP)
		})
		return at, ours
	}
	at, ours := from(&proxy.Dialer{Identity: ca.store(t, "spiffe://mesh.test/bank/pay", later, ca), Only: true})
	much := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	if got, err := exchange(t, at, much); err != nil || !bytes.Equal(got, append([]byte("hello\n"), much...)) {
		t.Fatalf("%d bytes came back: %v", len(got), err)
	}
	if r := theirs.all(t, 1)[0]; r.Source != "bank/pay" || r.Flag != "" || r.Sent != int64(len(much)) || r.Received != int64(len(much))+6 {
		t.Errorf("recorded %+v", r)
	}
	if got, err := exchange(t, at, []byte("break")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("broken off: %q, %v", got, err)
	}
	for _, r := range append(ours.all(t, 2)[1:], theirs.all(t, 2)[1:]...) {
		if r.Flag != "closed" {
			t.Errorf("recorded %+v", r)
		}
	}
	for what, d := range map[string]*proxy.Dialer{
		"stranger":    {Identity: other.store(t, "spiffe://mesh.test/bank/pay", later, ca, other), Only: true},
		"without TLS": {},
	} {
		at, ours := from(d)
		if got, err := exchange(t, at, nil); !errors.Is(err, syscall.ECONNRESET) || len(got) > 0 {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		if r := ours.all(t, 1)[0]; r.Code == 0 {
			t.Errorf("%s: recorded %+v", what, r)
		}
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("the application was connected %d times", n)
	}
}
