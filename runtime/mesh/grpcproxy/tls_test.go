package grpcproxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

type inlineListener struct{ net.Listener }

func (l inlineListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		nc = Inline(nc)
	}
	return nc, err
}

func TestTLS(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testTLS(t, false) })
	t.Run("inline", func(t *testing.T) { testTLS(t, true) })
}

// newTLS makes a configuration for both sides: one certificate that vouches for itself.
func newTLS(t testing.TB) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}, RootCAs: pool, NextProtos: []string{"h2"}}
}

func clientTLS(conf *tls.Config) credentials.TransportCredentials {
	conf = conf.Clone()
	conf.ServerName = "127.0.0.1"
	return credentials.NewTLS(conf)
}

func testTLS(t *testing.T, inl bool) {
	conf := newTLS(t)
	sln, ln := listen(t), listen(t)
	v := &service{t: t}
	s := v.serve(sln, grpc.Creds(credentials.NewTLS(conf)))
	defer s.Stop()
	r := &Relay{}
	defer r.Close()
	up := r.NewUpstream("tls", 1, func(ctx context.Context) (net.Conn, error) {
		nc, err := tcp(sln.Addr().String())(ctx)
		if err == nil && inl {
			nc = Inline(nc)
		}
		c2 := conf.Clone()
		c2.ServerName = "127.0.0.1"
		return tls.Client(nc, c2), err
	})
	var peers atomic.Int64
	r.Route = func(h *Headers) (*Upstream, error) {
		if h.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol == "h2" {
			peers.Add(1)
		}
		return up, nil
	}
	if inl {
		ln = inlineListener{ln}
	}
	go r.Serve(tls.NewListener(ln, conf))
	defer ln.Close()
	cc := client(t, ln.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(conf)))
	defer cc.Close()
	body := make([]byte, 3<<20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				if got, err := unary(do(), cc, body); err != nil || len(got) != len(body) {
					t.Error(err)
				}
			}
			for range 100 {
				if _, err := unary(do(), cc, []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if peers.Load() != 8*103 {
		t.Fatal(peers.Load())
	}
	bad := r.NewUpstream("untrusted", 1, func(ctx context.Context) (net.Conn, error) {
		nc, err := tcp(sln.Addr().String())(ctx)
		return tls.Client(nc, &tls.Config{ServerName: "other", NextProtos: []string{"h2"}}), err
	})
	r.Route = func(h *Headers) (*Upstream, error) { return bad, nil }
	if _, err := unary(do(), cc, nil); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "certificate") {
		t.Fatal(err)
	}
}

// A connection whose writing side is broken ends, rather than go on as if what it was to say had been said.
func TestBrokenTLSEnds(t *testing.T) {
	conf, ln := newTLS(t), listen(t)
	defer ln.Close()
	var peer sync.WaitGroup
	defer peer.Wait()
	peer.Go(func() {
		if nc, err := tls.Dial("tcp", ln.Addr().String(), conf); err == nil {
			io.Copy(io.Discard, nc)
			nc.Close()
		}
	})
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{}
	r.init()
	defer r.Close()
	c := newConn(r, tls.Server(Inline(nc), conf), nil)
	defer c.nc.Close()
	if err := c.handshake(); err != nil {
		t.Fatal(err)
	}
	if err := c.nc.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.drain(nil)
	nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection goes on: %v", err)
	}
}
