package proxy

import (
	"net"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/httpproxy"
)

// httpService reads the service that a request names: by its header, or by its host, which may be NAME or NAME.NAMESPACE. An
// address, which is what a client names that has chosen an instance itself, is that of one of the service's instances. It is one of HTTP, so
// that the directory looks where its applications register themselves, too.
func (o *HTTPOutbound) httpService(h *httpproxy.Head) (s mesh.Service, ok bool) {
	if s, ok = o.namedService(h); ok {
		s.Protocol = mesh.HTTP
	}
	return s, ok
}

func (o *HTTPOutbound) namedService(h *httpproxy.Head) (mesh.Service, bool) {
	if name := h.Get(HeaderService); name != nil {
		return ParseService(string(name), o.Caller.Namespace)
	}
	host := string(h.Host)
	if s, ok := hostService(host, o.Caller); ok {
		return s, true
	}
	if o.ServiceAt == nil {
		return mesh.Service{}, false
	}
	return o.ServiceAt(withPort(host))
}

// hostService reads NAME or NAME.NAMESPACE, with or without a port.
func hostService(host string, caller components.Caller) (mesh.Service, bool) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil {
		return mesh.Service{}, false
	}
	name, namespace, found := strings.Cut(host, ".")
	if !found {
		namespace = caller.Namespace
	}
	if strings.Contains(namespace, ".") { // a namespace is one label: this is somebody's domain
		return mesh.Service{}, false
	}
	return checked(namespace, name)
}

const httpPort = "80"

func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), httpPort)
}
