package fastgrpc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/peer"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// A client certificate is in peer.AuthInfo on every path.
func TestPeerCertificate(t *testing.T) {
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
	conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"}, ServerName: "127.0.0.1"}

	var seen atomic.Int64
	s := New(Options{Inline: inline, Unary: []grpc.UnaryServerInterceptor{
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			p, _ := peer.FromContext(ctx)
			if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && info.State.PeerCertificates[0].Subject.CommonName == "test" {
				seen.Add(1)
			}
			return h(ctx, req)
		}}})
	defer s.Close()
	s.RegisterService(desc(), &svc{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go s.ServeConn(tls.Server(grpcproxy.Inline(nc), conf))
		}
	}()
	cc, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(conf)))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	for _, m := range []string{"Inline", "Block"} {
		if _, err := unary(do(), cc, m, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := unary(do(), cc, "Block", nil, grpc.UseCompressor(gzip.Name)); err != nil || seen.Load() != 3 {
		t.Fatal(err, seen.Load())
	}
}
