package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// meshTLS compares a hop of gRPC and of HTTP between sidecars that speak mutual TLS with each other with the echo servers by themselves.
func meshTLS(o options) (rows []row, err error) {
	issue, err := authority(o.dir)
	if err != nil {
		return nil, err
	}
	config, err := issue("bench-caller")
	if err != nil {
		return nil, err
	}
	caller, err := startSidecar(o, "bench-caller", 0, "-config", config)
	if err != nil {
		return nil, err
	}
	defer caller.end()
	var kinds []kind
	for _, p := range []struct{ protocol, serve, app, call, bare string }{{"grpc", "serve", "echo", "echo", "grpc-direct"}, {"http", "serve-http", "stock", "http", "http-bare"}} {
		port, address, err := free()
		if err != nil {
			return nil, err
		}
		server, err := role(p.serve, address)
		if err != nil {
			return nil, err
		}
		defer server.end()
		if config, err = issue(p.app); err != nil {
			return nil, err
		}
		callee, err := startSidecar(o, p.app, port, "-config", config, "-app-protocol", p.protocol)
		if err != nil {
			return nil, err
		}
		defer callee.end()
		if err := published(callee); err != nil {
			return nil, err
		}
		kinds = append(kinds, kind{name: p.bare, target: address, call: p.call, pids: []int{server.pid()}},
			kind{name: p.protocol + "-mtls-two-sidecars", target: caller.outbound, call: p.call, pids: []int{callee.pid(), caller.pid()}, hops: 2, against: p.bare})
	}
	return compare(o, kinds)
}

// authority makes a CA; what it answers makes a certificate for an application and a configuration that shows it.
func authority(dir string) (issue func(app string) (config string, err error), err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: "bench"}}}
	write := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if err := write("ca.crt", "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return func(app string) (string, error) {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return "", err
		}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{{Scheme: "spiffe", Host: "bench", Path: "/ns/default/sa/" + app}}}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, own.Public(), key)
		if err != nil {
			return "", err
		}
		secret, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			return "", err
		}
		if err := write(app+".crt", "CERTIFICATE", der); err != nil {
			return "", err
		}
		if err := write(app+".key", "PRIVATE KEY", secret); err != nil {
			return "", err
		}
		config := filepath.Join(dir, app+"-tls.yaml")
		return config, os.WriteFile(config, fmt.Appendf(nil, "registry: {default: {driver: file}}\nmesh: {tls: {mode: strict, certificate: %s.crt, key: %[1]s.key, ca: ca.crt}}\n", app), 0o600)
	}, nil
}

// meshDirectory has the test of it say what many instances take.
func meshDirectory(o options) (rows []row, err error) {
	if !o.peers && o.slack == 0 {
		return nil, nil // make test runs it
	}
	out, err := exec.Command("go", "test", "-count=1", "-run", "^TestManyInstances$", "-v", "./runtime/mesh").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "figure:" {
			value, err := strconv.ParseFloat(f[2], 64)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row{Name: f[1], Value: value, Unit: f[3]})
		}
	}
	return rows, nil
}
