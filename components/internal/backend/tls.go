package backend

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS are the options of an encrypted connection. The zero value is none. There is no way not to verify the server.
type TLS struct {
	Enabled    bool   `yaml:"enabled" doc:"encrypt the connection, and verify the server"`
	CA         string `yaml:"ca" doc:"file of the certificates, in PEM, that the server's must be signed by; empty: the system's"`
	Cert       string `yaml:"cert" doc:"file of the certificate, in PEM, that is shown to the server; empty: none"`
	Key        string `yaml:"key" doc:"file of the key of cert, in PEM"`
	ServerName string `yaml:"server_name" doc:"the name that the server's certificate must have; empty: the host that is dialled"`
}

// Validate refuses what cannot work together.
func (t TLS) Validate() error {
	switch {
	case !t.Enabled && t != (TLS{}):
		return errors.New("tls: there are options of TLS, but not enabled: true")
	case (t.Cert == "") != (t.Key == ""):
		return errors.New("tls: cert and key go together")
	}
	return nil
}

// Config reads the files; nil without TLS.
func (t TLS) Config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: %s has no certificate in PEM", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
