package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs the sidecars' certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64 // serial number

	trust []byte // PEM of the CAs that those with its certificates trust
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, last: time.Now().UnixNano()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var der []byte
	a.key, der = a.sign(template, template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.trust = a.pem()
	return a
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) sign(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, der
}

// issue puts a new certificate of an application into its folder, and answers its serial number.
func (a *authority) issue(dir, app string) int64 {
	a.t.Helper()
	a.last++
	id := &url.URL{Scheme: "spiffe", Host: "mesh.test", Path: "/ns/default/sa/" + app}
	key, der := a.sign(&x509.Certificate{SerialNumber: big.NewInt(a.last), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{id},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}, a.cert, a.key)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for name, text := range map[string][]byte{"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "ca.crt": a.trust} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path)); err != nil {
			a.t.Fatal(err)
		}
	}
	return a.last
}

// config is mutual TLS with the certificate in a folder.
func (a *authority) config(mode, dir string) string {
	return fmt.Sprintf("tls: {mode: %s, certificate: %s/tls.crt, key: %s/tls.key, ca: %s/ca.crt}", mode, dir, dir, dir)
}

// shown is the serial number of the certificate that a sidecar shows those who connect.
func shown(address string) (serial int64, err error) {
	nc, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
		cert, err := x509.ParseCertificate(raw[0])
		if err == nil {
			serial = cert.SerialNumber.Int64()
		}
		return err
	}})
	if err := c.Handshake(); serial == 0 {
		return 0, fmt.Errorf("no certificate was shown: %v", err)
	}
	return serial, nil
}
