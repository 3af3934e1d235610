package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

// Requests of HTTP/1.1 go between sidecars by mutual TLS as calls of gRPC do: the caller is who its certificate says, and one whose
// certificate nobody here has signed has sent nothing.
func TestMutualTLSOfHTTP(t *testing.T) {
	t.Log("feature: http, mutual TLS between sidecars; the certificate says who calls")
	ca, other := newAuthority(t), newAuthority(t)
	app := webApp(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	m := &monitor{}
	secure := &proxy.Secure{Identity: ca.store(t, stockID, later, ca), Only: true}
	to := httpInSecure(t, app, &mesh.Gate{Concurrency: 9, MaxHops: 16}, m, secure)
	post := func(d *proxy.Dialer, body string) (int, string, string) {
		out := httpOut(t, &engine{addresses: []string{to}}, &monitor{}, func(o *proxy.HTTPOutbound) {
			o.Dial = func(ctx context.Context, in *mesh.Instance) (net.Conn, error) { return d.Dial(ctx, in, "http") }
		})
		rp, text := ask(t, out, "POST /x HTTP/1.1\r\nHost: stock\r\nOutrigger-Source: evil/app\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"5\r\n"+body[:5]+"\r\n"+"1\r\n"+body[5:6]+"\r\n0\r\n\r\n")
		return rp.StatusCode, rp.Header.Get("outrigger-reason"), text
	}
	pay := &proxy.Dialer{Identity: ca.store(t, "spiffe://mesh.test/bank/pay", later, ca), Only: true}
	if status, reason, text := post(pay, "hello!"); status != 200 || text != "hello!" {
		t.Fatal(status, reason, text)
	}
	if r := m.all(t, 1)[0]; r.Source != "bank/pay" {
		t.Errorf("the caller is %s, its certificate says bank/pay", r.Source)
	}
	stranger := &proxy.Dialer{Identity: other.store(t, "spiffe://mesh.test/bank/pay", later, ca, other), Only: true}
	if status, reason, text := post(stranger, "hello!"); status != 503 || reason != "CONNECT_FAILED" || !strings.Contains(text, "mutual TLS with") {
		t.Errorf("a stranger: %d %s %s", status, reason, text)
	}
	if rp, text := ask(t, to, "GET / HTTP/1.1\r\nHost: stock\r\n\r\n"); rp.StatusCode != 403 || !strings.Contains(text, "mutual TLS alone") {
		t.Errorf("without TLS: %d %s", rp.StatusCode, text)
	}
	if n := len(m.all(t, 1)); n != 1 {
		t.Errorf("%d requests came in", n)
	}
}

// That a client goes away is noticed behind TLS, too: the application need not work for nobody.
func TestClientGoneBehindTLS(t *testing.T) {
	ca := newAuthority(t)
	began, ended := make(chan bool, 1), make(chan bool, 1)
	app := webApp(t, func(w http.ResponseWriter, r *http.Request) {
		began <- true
		<-r.Context().Done()
		ended <- true
	})
	to := httpInSecure(t, app, &mesh.Gate{Concurrency: 9, MaxHops: 16}, &monitor{}, &proxy.Secure{Identity: ca.store(t, stockID, later, ca), Only: true})
	pay := &proxy.Dialer{Identity: ca.store(t, "spiffe://mesh.test/bank/pay", later, ca), Only: true}
	nc, err := pay.Dial(t.Context(), &mesh.Instance{Address: to}, "http")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, "GET /x HTTP/1.1\r\nHost: stock\r\n\r\n")
	<-began
	nc.Close()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the application is not told that its client has gone")
	}
}

// A sidecar that ends says so by TLS on connections that are idle: nothing is sent on them any longer, as it could not be sent again.
func TestPeerLeavesBehindTLS(t *testing.T) {
	ca := newAuthority(t)
	config := ca.store(t, stockID, later, ca).Server([]string{"outrigger/http"})
	leave, left := make(chan bool), make(chan bool)
	to := rawServer(t, func(nc net.Conn) {
		peer := tls.Server(nc, config)
		peer.Write([]byte{1}) // it lets its peer in
		rq, err := http.ReadRequest(bufio.NewReader(peer))
		if err != nil {
			return
		}
		io.Copy(io.Discard, rq.Body)
		io.WriteString(peer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		<-leave
		peer.Close()
		left <- true
	})
	d := &proxy.Dialer{Identity: ca.store(t, "spiffe://mesh.test/bank/pay", later, ca), Only: true}
	out := httpOut(t, &engine{addresses: []string{to}}, &monitor{}, func(o *proxy.HTTPOutbound) {
		o.Dial = func(ctx context.Context, in *mesh.Instance) (net.Conn, error) { return d.Dial(ctx, in, "http") }
	})
	for range 5 {
		if rp, text := ask(t, out, "POST /x HTTP/1.1\r\nHost: stock\r\nContent-Length: 5\r\n\r\nhello"); rp.StatusCode != 200 {
			t.Errorf("%d %s", rp.StatusCode, text)
		} else {
			leave <- true
			<-left
		}
	}
}

// And so do those of Bolt and Dubbo.
func TestMutualTLSOfRPC(t *testing.T) {
	t.Log("feature: bolt dubbo, mutual TLS between sidecars; the certificate says who calls")
	ca, other := newAuthority(t), newAuthority(t)
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		secure := &proxy.Secure{Identity: ca.store(t, stockID, later, ca), Only: true}
		b := newSecureRPCBed(t, d, "", secure, &proxy.Dialer{Identity: ca.store(t, "spiffe://mesh.test/bank/pay", later, ca), Only: true})
		for id := uint64(5); id < 8; id++ {
			b.client.Write(d.Request(id, false, 5*time.Second, "echo", "body"))
			if f, err := b.client.Next(); err != nil || f.ID != id || !strings.Contains(d.Body(f.Bytes), "body") {
				t.Fatalf("answered %q, %v", f.Bytes, err)
			}
		}
		for _, r := range b.in.all(t, 3) {
			if r.Source != "bank/pay" {
				t.Errorf("the caller is %s, its certificate says bank/pay", r.Source)
			}
		}
		b = newSecureRPCBed(t, d, "", secure, &proxy.Dialer{Identity: other.store(t, "spiffe://mesh.test/bank/pay", later, ca, other), Only: true})
		b.client.Write(d.Request(5, false, 5*time.Second, "echo", "body"))
		if f, err := b.client.Next(); err != nil || !strings.Contains(string(f.Bytes), "mutual TLS with") {
			t.Errorf("a stranger: %q, %v", f.Bytes, err)
		}
		if b.in.begun != 0 {
			t.Error("its call came in")
		}
	})
}
