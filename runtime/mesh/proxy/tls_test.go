package proxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/identity"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// authority is a CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial = big.NewInt(1)

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "ca " + rand.Text()}, // by the name a client could see which a server wants
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func asPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// write puts a certificate for id and the CAs that are trusted into a folder.
func (a *authority) write(t *testing.T, dir, id string, until time.Time, trusted ...*authority) identity.Files {
	t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, URIs: []*url.URL{uri},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var roots []byte
	for _, ca := range trusted {
		roots = append(roots, asPEM("CERTIFICATE", ca.cert.Raw)...)
	}
	f := identity.Files{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt")}
	for path, text := range map[string][]byte{f.Certificate: asPEM("CERTIFICATE", der), f.Key: asPEM("PRIVATE KEY", private), f.CA: roots} {
		if err := errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (a *authority) store(t *testing.T, id string, until time.Time, trusted ...*authority) *identity.Store {
	return identity.NewStore(a.write(t, t.TempDir(), id, until, trusted...), slog.New(slog.DiscardHandler))
}

const (
	ordersID = "spiffe://mesh.test/ns/shop/sa/orders"
	stockID  = "spiffe://mesh.test/ns/shop/sa/stock"
)

// logged is what was logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// secured is the sidecar of an application that others come in to.
func secured(t *testing.T, s *proxy.Secure) (address string, m *monitor, log *logged) {
	t.Helper()
	a := startApp(t)
	m, log = &monitor{}, &logged{}
	in := &proxy.Inbound{Gate: &mesh.Gate{Concurrency: 1000, MaxHops: 8}, Monitor: m, App: components.Caller{Namespace: "shop", App: "stock"},
		Port: func(string) (int, bool) { return a.port(), true }}
	r := &grpcproxy.Relay{}
	in.Bind(r, func(*grpcproxy.Headers) (*grpcproxy.Upstream, error, bool) { return nil, nil, false })
	d := &proxy.Dispatch{Logger: slog.New(slog.NewTextHandler(log, nil)), Secure: s, Protocols: []proxy.Protocol{{Name: "grpc", Match: proxy.Prefix(proxy.HTTP2),
		Serve: func(nc net.Conn, head []byte) { r.ServeConn(grpcproxy.Prefixed(nc, head)) }}}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Serve(ln) }()
	t.Cleanup(func() {
		ln.Close()
		<-done
		r.Close()
		d.Close()
	})
	return ln.Addr().String(), m, log
}

// calling is a client of a sidecar that calls an instance.
func calling(t *testing.T, d *proxy.Dialer, in mesh.Instance) *grpc.ClientConn {
	t.Helper()
	in.Weight = 100
	directory := mesh.NewDirectory(static{in}, slog.New(slog.DiscardHandler))
	t.Cleanup(directory.Close)
	o := &proxy.Outbound{Engine: &mesh.Router{Directory: directory, MaxHops: 8}, Monitor: &monitor{}, Caller: caller,
		Dial: func(ctx context.Context, in *mesh.Instance) (net.Conn, error) { return d.Dial(ctx, in, "grpc") }}
	r := &grpcproxy.Relay{}
	o.Bind(r, nil)
	conn, _ := serveRelay(t, r)
	return conn
}

func check(t *testing.T, c *grpc.ClientConn) error {
	return c.Invoke(within(t, 10*time.Second, "outrigger-service", "stock"), "/shop.v1.Stock/Check", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
}

var later = time.Now().Add(time.Hour)

// The caller is who its certificate says, whatever it calls itself.
func TestMutualTLS(t *testing.T) {
	t.Log("feature: grpc, mutual TLS between sidecars; the certificate says who calls")
	ca := newAuthority(t)
	for _, only := range []bool{true, false} {
		address, m, _ := secured(t, &proxy.Secure{Identity: ca.store(t, stockID, later, ca), Only: only})
		pay := ca.store(t, "spiffe://mesh.test/bank/pay", later, ca)
		if err := check(t, calling(t, &proxy.Dialer{Identity: pay, Only: true}, mesh.Instance{Address: address, Identity: stockID})); err != nil {
			t.Fatal(err)
		}
		if r := m.all(t, 1)[0]; r.Source != "bank/pay" {
			t.Errorf("the caller is %s, its certificate says bank/pay", r.Source)
		}
		if err := check(t, calling(t, &proxy.Dialer{}, mesh.Instance{Address: address})); (err == nil) == only {
			t.Errorf("only TLS %v, a call without: %v", only, err)
		}
	}
}

// What is wrong with a certificate is said to the caller, and in the log of the side that is called.
func TestTLSRefusals(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	good, past := ca.store(t, stockID, later, ca), time.Now().Add(-time.Hour)
	none := identity.NewStore(identity.Files{}, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		name           string
		server, client *identity.Store
		want           string // of the instance
		told, log      string
	}{
		{"the caller's CA is unknown", good, other.store(t, ordersID, later, ca), stockID, "none of the peer's mesh.tls.ca has signed this sidecar's certificate", "the peer's certificate is signed by none of mesh.tls.ca"},
		{"the peer's CA is unknown", other.store(t, stockID, later, ca), ca.store(t, ordersID, later, ca), stockID, "signed by none of mesh.tls.ca", "does not take this sidecar's certificate"},
		{"the caller's has expired", good, ca.store(t, ordersID, past, ca), stockID, "the peer says that this sidecar's certificate has expired, or is not yet valid", "not valid at this time"},
		{"the peer's has expired", ca.store(t, stockID, past, ca), ca.store(t, ordersID, later, ca), stockID, "not valid at this time", ""},
		{"another identity", good, ca.store(t, ordersID, later, ca), "spiffe://mesh.test/shop/other", "which the registry names", ""},
		{"another trust domain", good, ca.store(t, "spiffe://else.test/shop/orders", later, ca), "", "another trust domain", ""},
		{"the caller has none yet", good, none, stockID, "no certificate yet", ""},
		{"the peer has none yet", none, ca.store(t, ordersID, later, ca), stockID, "no certificate yet", "no certificate yet"},
		{"the caller has no TLS", good, nil, "", "by mutual TLS alone", "without TLS"},
		{"the peer has no TLS", nil, ca.store(t, ordersID, later, ca), stockID, "no TLS", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s *proxy.Secure
			if c.server != nil {
				s = &proxy.Secure{Identity: c.server, Only: true}
			}
			address, m, log := secured(t, s)
			err := check(t, calling(t, &proxy.Dialer{Identity: c.client, Only: true}, mesh.Instance{Address: address, Identity: c.want}))
			if err == nil || !strings.Contains(status.Convert(err).Message(), c.told) {
				t.Errorf("the caller is told: %v; want %q", err, c.told)
			}
			eventually(t, func() error {
				if !strings.Contains(log.String(), c.log) {
					return errors.New("the log has " + log.String() + ", not " + c.log)
				}
				return nil
			})
			m.all(t, 0)
		})
	}
}

func TestNoClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	address, _, log := secured(t, &proxy.Secure{Identity: ca.store(t, stockID, later, ca), Only: true})
	nc, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"outrigger/grpc"}})
	if err == nil {
		nc.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = nc.Read(make([]byte, 1))
		nc.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("the client is told: %v", err)
	}
	eventually(t, func() error {
		if !strings.Contains(log.String(), "shows no certificate") {
			return errors.New(log.String())
		}
		return nil
	})
}

// Nothing is spoken that is older than TLS 1.3, whichever side would like to.
func TestOldTLSIsRefused(t *testing.T) {
	ca := newAuthority(t)
	stock, orders := ca.store(t, stockID, later, ca), ca.store(t, ordersID, later, ca)
	address, m, log := secured(t, &proxy.Secure{Identity: stock, Only: true})
	old, err := orders.Client("outrigger/grpc", stockID)
	if err != nil {
		t.Fatal(err)
	}
	old.MinVersion, old.MaxVersion = 0, tls.VersionTLS12
	nc, err := tls.Dial("tcp", address, old)
	if err == nil {
		nc.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "protocol version not supported") {
		t.Errorf("a caller with TLS 1.2: %v", err)
	}
	eventually(t, func() error {
		if !strings.Contains(log.String(), "unsupported versions") {
			return errors.New("the log has " + log.String())
		}
		return nil
	})
	m.all(t, 0)

	if old, err = stock.Server([]string{"outrigger/grpc"}).GetConfigForClient(nil); err != nil {
		t.Fatal(err)
	}
	old.MinVersion, old.MaxVersion = 0, tls.VersionTLS12
	peer := rawServer(t, func(nc net.Conn) {
		c := tls.Server(nc, old)
		c.Write([]byte{1}) // it lets its peer in
		c.Read(make([]byte, 1))
	})
	if nc, err := (&proxy.Dialer{Identity: orders, Only: true}).Dial(t.Context(), &mesh.Instance{Address: peer, Identity: stockID}, "grpc"); err == nil {
		nc.Close()
		t.Error("a peer with TLS 1.2 is called")
	} else if !strings.Contains(err.Error(), "has no TLS 1.3") {
		t.Errorf("a peer with TLS 1.2: %v", err)
	}
}

// Certificates and CAs are replaced under load, and no call fails; then calls are made by the new ones, and those of the old CA are refused.
func TestRotation(t *testing.T) {
	one, two := newAuthority(t), newAuthority(t)
	server, client := t.TempDir(), t.TempDir()
	log := slog.New(slog.DiscardHandler)
	in := identity.NewStore(one.write(t, server, stockID, later, one), log)
	out := identity.NewStore(one.write(t, client, ordersID, later, one), log)
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { in.Watch(ctx) })
	tasks.Go(func() { out.Watch(ctx) })
	address, m, _ := secured(t, &proxy.Secure{Identity: in, Only: true})
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				nc, err := (&proxy.Dialer{Identity: out, Only: true}).Dial(ctx, &mesh.Instance{Address: address, Identity: stockID}, "grpc") // a handshake for each
				if err != nil {
					t.Error(err)
					return
				}
				nc.Close()
			}
		})
	}
	steps := []struct {
		signer  *authority
		trusted []*authority
	}{{one, []*authority{one, two}}, {two, []*authority{one, two}}, {two, []*authority{two}}}
	for i, s := range steps {
		s.signer.write(t, server, stockID, later, s.trusted...)
		s.signer.write(t, client, ordersID, later, s.trusted...)
		eventually(t, func() error { // both have it: a third CA's signature tells by what each trusts
			probe := two
			if i == 2 {
				probe = one
			}
			_, err := (&proxy.Dialer{Identity: probe.store(t, ordersID, later, one, two), Only: true}).Dial(ctx, &mesh.Instance{Address: address, Identity: stockID}, "grpc")
			if (err == nil) != (i < 2) {
				return errors.New("not yet")
			}
			return nil
		})
		time.Sleep(2200 * time.Millisecond) // as often as both look
	}
	close(stop)
	load.Wait()
	if err := check(t, calling(t, &proxy.Dialer{Identity: out, Only: true}, mesh.Instance{Address: address, Identity: stockID})); err != nil {
		t.Error(err)
	}
	m.all(t, 1)
}
