package runtime

import (
	"context"
	"net"
	"path/filepath"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/identity"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// startIdentity reads the sidecar's certificate, if it is to have one, and follows its files until the sidecar ends.
func (s *sidecar) startIdentity() {
	c := s.config()
	switch {
	case c.Mesh.TLS.On():
		s.identity = identity.NewStore(identity.Files{Certificate: s.beside(c.Mesh.TLS.Certificate), Key: s.beside(c.Mesh.TLS.Key),
			CA: s.beside(c.Mesh.TLS.CA)}, s.log)
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

// beside is a path as the configuration means it: from its own folder on.
func (s *sidecar) beside(path string) string {
	if source := s.config().SourcePath; !filepath.IsAbs(path) && source != "" {
		return filepath.Join(filepath.Dir(source), path)
	}
	return path
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
