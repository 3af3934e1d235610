package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// identityFiles writes a certificate that signs itself, its key, and itself as the CA.
func identityFiles(t *testing.T, dir, id string, until time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until}
	if id != "" {
		uri, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{uri}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600), os.WriteFile(filepath.Join(dir, "ca.crt"), cert, 0o600),
		os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// check -dial looks at the files of mesh.tls, and tells which of them is wrong.
func TestCheckDialLooksAtCertificates(t *testing.T) {
	const orders = "spiffe://shop.test/ns/shop/sa/orders"
	later := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		id    string
		until time.Time
		spoil func(dir string) error
		want  []string // that is wrong; none: nothing
	}{
		"good":   {orders, later, nil, nil},
		"no key": {orders, later, func(dir string) error { return os.Remove(filepath.Join(dir, "tls.key")) }, []string{"6:9: mesh.tls.key: open "}},
		"no files": {orders, later, func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "tls.crt")), os.Remove(filepath.Join(dir, "ca.crt")))
		}, []string{"5:17: mesh.tls.certificate: open ", "7:8: mesh.tls.ca: open "}},
		"other key":   {orders, later, func(dir string) error { return otherKey(t, dir) }, []string{"6:9: mesh.tls.key: it does not fit the certificate: "}},
		"no URI":      {"", later, nil, []string{"5:17: mesh.tls.certificate: ", "has 0 URIs, one SPIFFE id is wanted"}},
		"another app": {"spiffe://shop.test/ns/shop/sa/stock", later, nil, []string{"5:17: mesh.tls.certificate: it is of spiffe://shop.test/ns/shop/sa/stock, and this sidecar's application is shop/orders"}},
		"expired":     {orders, time.Now().Add(-time.Hour), nil, []string{"5:17: mesh.tls.certificate: it is not valid at this time: it is for "}},
		"empty CA":    {orders, later, func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.crt"), nil, 0o600) }, []string{"7:8: mesh.tls.ca: it has no certificate"}},
		"no PEM":      {orders, later, func(dir string) error { return os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("x"), 0o600) }, []string{"5:17: mesh.tls.certificate: tls: failed to find any PEM data"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			identityFiles(t, dir, c.id, c.until)
			if c.spoil != nil {
				if err := c.spoil(dir); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, "a.yaml")
			text := "app: {id: orders, namespace: shop}\ndata_dir: " + filepath.Join(dir, "data") + "\nmesh: # of a shop\n  tls: {mode: strict,\n   certificate: tls.crt,\n   key: tls.key,\n   ca: ca.crt}\ncache: {default: {driver: memory}}\n"
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			code := dispatch([]string{"check", "-dial", "-config", path}, &out, &out)
			if (code == exitOK) != (c.want == nil) || !strings.Contains(out.String(), `cache "default" (memory): ok`) {
				t.Errorf("code %d:\n%s", code, out.String())
			}
			if ok := strings.Contains(out.String(), "a.yaml: mesh.tls (tls.crt): ok\n"); ok != (c.want == nil) || strings.Count(out.String(), ": mesh.tls.") > max(1, len(c.want)) {
				t.Errorf("it says:\n%s", out.String())
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, out.String())
				}
			}
		})
	}
}

// otherKey puts the key of another certificate in place of the one there.
func otherKey(t *testing.T, dir string) error {
	other := t.TempDir()
	identityFiles(t, other, "", time.Now().Add(time.Hour))
	return os.Rename(filepath.Join(other, "tls.key"), filepath.Join(dir, "tls.key"))
}
