package runtime

import (
	"context"
	"net"
	"path/filepath"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/identity"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// startIdentity reads the sidecar's certificate, if it is to have one, and follows its files until the sidecar ends.
func (s *sidecar) startIdentity() {
	c := s.config()
	switch {
	case c.Mesh.TLS.On():
		s.identity = identity.NewStore(identityFiles(c), s.log)
		s.tasks.Go(func() { s.identity.Watch(s.bg) })
		s.warnOfIdentity()
	case c.Mesh.TLS.Mode == "off":
		s.log.Warn("mesh.tls.mode is off: whoever can connect to the inbound address may call the application", "inbound", s.sockets.inbound.Addr().String())
	}
}

// warnOfIdentity says when the certificate is of another application: others see the calls of this one as that one's.
func (s *sidecar) warnOfIdentity() {
	if id, ok := s.identity.ID(); ok && id.Caller != s.app {
		s.log.Warn("the certificate is of another application than this sidecar's", "id", id.URI, "app", s.app.String())
	}
}

// identityFiles are those of mesh.tls: a path is from the configuration's own folder on.
func identityFiles(c *config.Config) identity.Files {
	beside := func(path string) string {
		if c.SourcePath != "" && !filepath.IsAbs(path) {
			return filepath.Join(filepath.Dir(c.SourcePath), path)
		}
		return path
	}
	return identity.Files{Certificate: beside(c.Mesh.TLS.Certificate), Key: beside(c.Mesh.TLS.Key), CA: beside(c.Mesh.TLS.CA)}
}

// CheckTLS tells what is wrong with the files of mesh.tls, each with where it is written; nil also if there is no mutual TLS.
func CheckTLS(c *config.Config) (faults []error) {
	if !c.Mesh.TLS.On() {
		return nil
	}
	for _, p := range identity.Check(identityFiles(c), components.Caller{Namespace: c.App.Namespace, App: c.App.ID}) {
		faults = append(faults, c.Fault("mesh.tls."+p.File, p.Err))
	}
	return faults
}

// tlsTrouble is what is wrong with this sidecar's own certificate; "": nothing.
func (s *sidecar) tlsTrouble() string {
	if !s.wasReady.Load() || s.identity == nil {
		return ""
	}
	return s.identity.Trouble()
}

// secure is how others come in; nil: without TLS.
func (s *sidecar) secure() *proxy.Secure {
	if s.identity == nil {
		return nil
	}
	return &proxy.Secure{Identity: s.identity, Only: s.config().Mesh.TLS.Mode == "strict"}
}

// dial connects to an instance, to speak a protocol.
func (s *sidecar) dial(ctx context.Context, in *mesh.Instance, protocol string) (net.Conn, error) {
	d := proxy.Dialer{Identity: s.identity, Only: s.config().Mesh.TLS.Mode == "strict"}
	return d.Dial(ctx, in, protocol)
}

// spiffe is the id that is published with the services; "": none.
func (s *sidecar) spiffe() string {
	if s.identity == nil {
		return ""
	}
	id, _ := s.identity.ID()
	return id.URI
}
