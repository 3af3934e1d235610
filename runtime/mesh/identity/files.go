package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Problem is something that is wrong with one of the files.
type Problem struct {
	File string // as in mesh.tls: certificate, key or ca
	Err  error
}

func (p Problem) Error() string { return fmt.Sprintf("mesh.tls.%s: %v", p.File, p.Err) }

// Check tells all that is wrong with the files of an application's sidecar, as far as can be seen without others.
func Check(f Files, app components.Caller) []Problem {
	text, all := f.read()
	if len(all) > 0 {
		return all
	}
	m, all := load(text)
	leaf := m.certificate.Leaf
	if leaf == nil {
		return all
	}
	if m.id.URI != "" && m.id.Caller != app {
		all = append(all, Problem{"certificate", fmt.Errorf("it is of %s, and this sidecar's application is %s", m.id.URI, app)})
	}
	if err := current(leaf); err != nil {
		all = append(all, Problem{"certificate", err})
	}
	return all
}

// texts are what is in the files.
type texts struct{ certificate, key, ca []byte }

func (f Files) read() (t texts, all []Problem) {
	for _, one := range [...]struct {
		file, path string
		text       *[]byte
	}{{"certificate", f.Certificate, &t.certificate}, {"key", f.Key, &t.key}, {"ca", f.CA, &t.ca}} {
		var err error
		if *one.text, err = os.ReadFile(one.path); err != nil {
			all = append(all, Problem{one.file, err})
		}
	}
	return t, all
}

// load makes the material of the files, and tells what is wrong with them: with anything wrong it is of no use.
func load(t texts) (m *material, all []Problem) {
	m = &material{roots: x509.NewCertPool()}
	pair, err := tls.X509KeyPair(t.certificate, t.key)
	switch {
	case err == nil:
		m.certificate = pair
		if m.id, err = Of(pair.Leaf); err != nil {
			all = append(all, Problem{"certificate", err})
		}
	case x509.NewCertPool().AppendCertsFromPEM(t.certificate): // so it is not that one
		all = append(all, Problem{"key", fmt.Errorf("it does not fit the certificate: %w", err)})
	default:
		all = append(all, Problem{"certificate", err})
	}
	if !m.roots.AppendCertsFromPEM(t.ca) {
		all = append(all, Problem{"ca", errors.New("it has no certificate")})
	}
	return m, all
}

// current tells why a certificate is not valid now.
func current(c *x509.Certificate) error {
	if now := time.Now(); now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return fmt.Errorf("it is not valid at this time: it is for %s to %s", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// joined is all that is wrong, in one line.
func joined(all []Problem) error {
	err := error(all[0])
	for _, p := range all[1:] {
		err = fmt.Errorf("%w; %w", err, p)
	}
	return err
}
