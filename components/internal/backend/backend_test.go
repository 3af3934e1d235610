package backend_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

func TestBackoffGrowsToItsMostAndVaries(t *testing.T) {
	b := backend.Backoff{First: 100 * time.Millisecond, Most: time.Second}
	most := 100 * time.Millisecond
	seen := map[time.Duration]bool{}
	for i := range 20 {
		got := b.Next()
		if got < most/2 || got > most {
			t.Errorf("the %dth is %s, want between %s and %s", i+1, got, most/2, most)
		}
		seen[got] = true
		most = min(2*most, time.Second)
	}
	if len(seen) < 10 {
		t.Errorf("20 times are %d different ones", len(seen))
	}
	b.Reset()
	if got := b.Next(); got > 100*time.Millisecond {
		t.Errorf("after a success %s", got)
	}
}

func TestBackoffEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		b := backend.Backoff{First: time.Hour, Most: time.Hour}
		if err := b.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		b = backend.Backoff{}
		if err := b.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsSaid(t *testing.T) {
	_, refused := net.Dial("tcp", "127.0.0.1:1")
	if refused == nil {
		t.Fatal("somebody listens on port 1")
	}
	err := backend.Unreachable(t.Context(), "db:1", refused)
	if !errors.Is(err, components.ErrUnavailable) || !strings.Contains(err.Error(), "db:1") || !errors.Is(err, refused) || !backend.Lost(err) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := backend.Unreachable(ctx, "db:1", refused); !errors.Is(err, context.Canceled) || errors.Is(err, components.ErrUnavailable) {
		t.Errorf("a call whose caller has gone: %v", err)
	}
	for _, say := range []func(context.Context, string, error) error{backend.Unreachable, backend.Unknown} {
		tried, cancel := context.WithTimeout(t.Context(), 0)
		_, late := (&net.Dialer{}).DialContext(tried, "tcp", "127.0.0.1:1")
		cancel()
		for _, own := range []error{context.DeadlineExceeded, context.Canceled, late} {
			err := say(t.Context(), "db:1", fmt.Errorf("try 2: %w", errors.Join(own, io.EOF)))
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || !errors.Is(err, io.EOF) || !backend.Lost(err) {
				t.Errorf("the end of a try is taken for the caller's, or the cause is gone: %v", err)
			}
		}
	}
	if backend.Lost(errors.New("syntax error")) {
		t.Error("an answer is taken for a lost connection")
	}
}

func TestCheckAddresses(t *testing.T) {
	if err := backend.CheckAddresses("addresses", []string{"a:1", "[::1]:2"}); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]string{nil, {"a"}, {":1"}, {"a:1", "http://b:1"}, {"a:"}, {"u@a:1"}} {
		if err := backend.CheckAddresses("addresses", bad); err == nil || !strings.HasPrefix(err.Error(), "addresses: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, block *pem.Block) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := write("cert.pem", &pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyFile := write("key.pem", &pem.Block{Type: "PRIVATE KEY", Bytes: private})
	c, err := backend.TLS{Enabled: true, CA: cert, Cert: cert, Key: keyFile, ServerName: "db"}.Config()
	if err != nil {
		t.Fatal(err)
	}
	if c.InsecureSkipVerify || c.RootCAs == nil || len(c.Certificates) != 1 || c.ServerName != "db" {
		t.Errorf("%+v", c)
	}
	if c, err := (backend.TLS{}).Config(); c != nil || err != nil {
		t.Error(c, err)
	}
	for want, bad := range map[string]backend.TLS{
		"tls.ca: open":       {Enabled: true, CA: filepath.Join(dir, "none")},
		"tls.ca: " + keyFile: {Enabled: true, CA: keyFile},
		"tls.cert: ":         {Enabled: true, Cert: keyFile, Key: cert},
	} {
		if _, err := bad.Config(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for _, bad := range []backend.TLS{{CA: "x"}, {Enabled: true, Cert: "x"}, {Enabled: true, Key: "x"}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
