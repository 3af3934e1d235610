// Package identity has the certificate by which a sidecar shows who its application is, and checks those of others: mutual TLS 1.3 with
// SPIFFE ids. The files are read again when they change; connections that are open stay as they are.
package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Files are where a Store reads, each PEM.
type Files struct {
	Certificate, Key, CA string
}

// Store has what is in the files now. Safe for concurrent use.
type Store struct {
	files Files
	log   *slog.Logger
	now   atomic.Pointer[material]
	why   atomic.Pointer[string] // there is none
	seen  [sha256.Size]byte
	aged  bool // that it is not valid at this time was logged
}

// material is one state of the files that fits together.
type material struct {
	certificate tls.Certificate
	roots       *x509.CertPool
	id          ID
}

// ID is a SPIFFE id of an application: spiffe://DOMAIN/ns/NAMESPACE/sa/APP, or spiffe://DOMAIN/NAMESPACE/APP.
type ID struct {
	URI    string
	Domain string
	Caller components.Caller
}

// Parse reads a SPIFFE id.
func Parse(uri string) (ID, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "spiffe" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Port() != "" {
		return ID{}, fmt.Errorf("%w: %q is no SPIFFE id", components.ErrInvalid, uri)
	}
	id := ID{URI: uri, Domain: u.Host}
	p := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	switch {
	case len(p) == 4 && p[0] == "ns" && p[2] == "sa":
		id.Caller = components.Caller{Namespace: p[1], App: p[3]}
	case len(p) == 2:
		id.Caller = components.Caller{Namespace: p[0], App: p[1]}
	}
	if id.Caller.Namespace == "" || id.Caller.App == "" {
		return ID{}, fmt.Errorf("%w: the SPIFFE id %q names no application: write spiffe://DOMAIN/ns/NAMESPACE/sa/APP", components.ErrInvalid, uri)
	}
	return id, nil
}

// Of reads the id in a certificate, which must have exactly one.
func Of(c *x509.Certificate) (ID, error) {
	if len(c.URIs) != 1 {
		return ID{}, fmt.Errorf("%w: the certificate of %q has %d URIs, one SPIFFE id is wanted", components.ErrInvalid, c.Subject.CommonName, len(c.URIs))
	}
	return Parse(c.URIs[0].String())
}

// Peer is who is at the other end of a connection that a Store has let in, or to.
func Peer(s *tls.ConnectionState) (ID, bool) {
	if s == nil || !s.HandshakeComplete || len(s.PeerCertificates) == 0 {
		return ID{}, false
	}
	id, err := Of(s.PeerCertificates[0])
	return id, err == nil
}

// NewStore reads the files; when they cannot be read there is no certificate yet, and connections are refused with the reason.
func NewStore(f Files, log *slog.Logger) *Store {
	s := &Store{files: f, log: log}
	s.look()
	s.age()
	return s
}

const lookEvery = time.Second

// Watch reads the files again when they have changed, until ctx ends. It looks at their content, so that links may be swapped and folders replaced.
func (s *Store) Watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look()
			s.age()
		}
	}
}

// look takes over what is in the files, if it is new and whole; else what was there stays.
func (s *Store) look() {
	text, wrong := s.files.read()
	if len(wrong) > 0 {
		s.missing(joined(wrong))
		return
	}
	digest := sha256.Sum256(bytes.Join([][]byte{text.certificate, text.key, text.ca}, []byte{0}))
	if digest == s.seen {
		s.why.Store(nil) // there may have been others in between
		return
	}
	m, wrong := load(text)
	if len(wrong) > 0 {
		s.missing(joined(wrong))
		return
	}
	s.seen, s.aged = digest, false
	s.now.Store(m)
	s.why.Store(nil)
	s.log.Info("mutual TLS has its certificate", "id", m.id.URI, "until", m.certificate.Leaf.NotAfter)
}

// missing notes why there is nothing new, once for each reason.
func (s *Store) missing(err error) {
	text := err.Error()
	if old := s.why.Swap(&text); old == nil || *old != text {
		s.log.Error("the files of mesh.tls cannot be used: new connections have what was there before, or are refused", "err", err)
	}
}

// age says once when the certificate has expired, or is not valid yet.
func (s *Store) age() {
	m := s.now.Load()
	if m == nil || s.aged {
		return
	}
	if err := current(m.certificate.Leaf); err != nil {
		s.aged = true
		s.log.Error("the certificate of mesh.tls is refused by other sidecars", "id", m.id.URI, "err", err)
	}
}

// Trouble tells what is wrong with this sidecar's own certificate; empty: nothing.
func (s *Store) Trouble() string {
	m, why := s.now.Load(), s.why.Load()
	switch {
	case m == nil && why != nil:
		return "no certificate: " + *why
	case m == nil:
		return "no certificate"
	}
	if err := current(m.certificate.Leaf); err != nil {
		return "mesh.tls.certificate: " + err.Error()
	}
	if why != nil {
		return "the files cannot be used, what was there before is: " + *why
	}
	return ""
}

// ID is this sidecar's; false while there is no certificate.
func (s *Store) ID() (ID, bool) {
	if m := s.now.Load(); m != nil {
		return m.id, true
	}
	return ID{}, false
}

// ReasonNoCertificate is what calls fail with while there is no certificate.
const ReasonNoCertificate components.Reason = "NO_CERTIFICATE"

func (s *Store) material() (*material, error) {
	if m := s.now.Load(); m != nil {
		return m, nil
	}
	why := ""
	if p := s.why.Load(); p != nil {
		why = ": " + *p
	}
	return nil, components.WithReason(fmt.Errorf("%w: this sidecar has no certificate yet%s", components.ErrUnavailable, why), ReasonNoCertificate)
}

// Server is the configuration of the side that is called. protocols are the ALPN names that it takes.
func (s *Store) Server(protocols []string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m, err := s.material()
		if err != nil {
			return nil, err
		}
		return m.config(protocols, "", tls.RequireAndVerifyClientCert), nil
	}}
}

// Client is the configuration of the side that calls an instance of that identity; "": any that the CA has signed.
func (s *Store) Client(protocol, identity string) (*tls.Config, error) {
	m, err := s.material()
	if err != nil {
		return nil, err
	}
	return m.config([]string{protocol}, identity, tls.NoClientCert), nil
}

// config verifies a server by itself: an id stands in place of the host name. Each connection is checked by what is in the files at its begin,
// so that no ticket outlives a certificate. A client's chain is verified by crypto/tls, whose alert then tells the client why. The
// certificate is shown whatever CAs the server names, for crypto/tls would show none that is of another, and nobody would hear of the CA.
func (m *material) config(protocols []string, want string, auth tls.ClientAuthType) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{m.certificate}, NextProtos: protocols, ClientAuth: auth,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &m.certificate, nil },
		ClientCAs:            m.roots, SessionTicketsDisabled: true, InsecureSkipVerify: true,
		VerifyConnection: func(c tls.ConnectionState) error { return m.verify(c, want) }}
}

func (m *material) verify(c tls.ConnectionState, want string) error {
	chain := c.PeerCertificates
	if len(chain) == 0 {
		return fmt.Errorf("%w: the peer shows no certificate", components.ErrDenied)
	}
	if len(c.VerifiedChains) == 0 { // it is a server's
		between := x509.NewCertPool()
		for _, c := range chain[1:] {
			between.AddCert(c)
		}
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: m.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
			return Explain(err)
		}
	}
	id, err := Of(chain[0])
	switch {
	case err != nil:
		return err
	case id.Domain != m.id.Domain:
		return fmt.Errorf("%w: the peer is %s, of another trust domain than %s", components.ErrDenied, id.URI, m.id.Domain)
	case want != "" && id.URI != want:
		return fmt.Errorf("%w: the peer is %s, and not %s, which the registry names", components.ErrDenied, id.URI, want)
	}
	return nil
}

// Explain says in the user's terms why a handshake failed: what is wrong with whose certificate.
func Explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	text := err.Error()
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: the peer's certificate is signed by none of mesh.tls.ca here", components.ErrDenied)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w: the peer's certificate is not valid at this time: it is for %s to %s", components.ErrDenied,
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case strings.Contains(text, "remote error: tls: certificate required"):
		return fmt.Errorf("%w: the peer wants a certificate, and was shown none", components.ErrDenied)
	case strings.Contains(text, "remote error: tls: unknown certificate authority"):
		return fmt.Errorf("%w: none of the peer's mesh.tls.ca has signed this sidecar's certificate", components.ErrDenied)
	case strings.Contains(text, "remote error: tls: expired certificate"):
		return fmt.Errorf("%w: the peer says that this sidecar's certificate has expired, or is not yet valid", components.ErrDenied)
	case strings.Contains(text, "remote error: tls: handshake failure"):
		return fmt.Errorf("%w: the peer has no TLS, or no certificate yet (mesh.tls of its sidecar)", components.ErrUnavailable)
	case strings.Contains(text, "remote error: tls: internal error"):
		return fmt.Errorf("%w: the peer has no certificate yet (mesh.tls of its sidecar)", components.ErrUnavailable)
	case strings.Contains(text, "remote error: tls: protocol version not supported"):
		return fmt.Errorf("%w: the peer has no TLS 1.3", components.ErrUnavailable)
	case strings.Contains(text, "remote error: tls: "):
		return fmt.Errorf("%w: the peer does not take this sidecar's certificate: its log says why (%s)", components.ErrDenied, text)
	case strings.Contains(text, "didn't provide a certificate"):
		return fmt.Errorf("%w: the peer shows no certificate", components.ErrDenied)
	}
	return err
}
