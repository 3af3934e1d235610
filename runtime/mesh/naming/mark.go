package naming

import (
	"net"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// Keys of a record's metadata, in each form. One with a protocol was written by a sidecar.
const (
	keyProtocol  = "outrigger.protocol"  // what the application speaks
	keyVersion   = "outrigger.version"   // of the service
	keyNamespace = "outrigger.namespace" // of the service, where the place does not say it
	keyPort      = "outrigger.port"      // of the application
	keyZone      = "outrigger.zone"
	keyIdentity  = "outrigger.identity" // the SPIFFE id in its certificate
	keyItself    = "outrigger.itself"   // "true": the application writes its ecosystem's record by itself
	keyLabel     = "label."             // followed by the label's name

	keyOurs = "outrigger." // what no other writes begins so
)

// Written tells whether a sidecar has written a record with that metadata: one that has nothing else says at least the application's port.
func Written(md map[string]string) bool {
	for key := range md {
		if strings.HasPrefix(key, keyOurs) {
			return true
		}
	}
	return false
}

// Mark writes down what sidecars tell each other. What is empty is left out.
func Mark(p Provider) map[string]string {
	port := ""
	if p.Port != 0 {
		port = strconv.Itoa(p.Port)
	}
	itself := ""
	if p.Itself {
		itself = strconv.FormatBool(true)
	}
	md := map[string]string{}
	for key, value := range map[string]string{keyProtocol: p.Service.Protocol, keyVersion: p.Service.Version, keyPort: port, keyZone: p.Instance.Zone, keyIdentity: p.Instance.Identity, keyItself: itself} {
		if value != "" {
			md[key] = value
		}
	}
	for name, value := range p.Instance.Labels.All() {
		md[keyLabel+name] = value
	}
	return md
}

// MarkForeign is Mark for a record in a place that all namespaces have.
func MarkForeign(p Provider) map[string]string {
	md := Mark(p)
	md[keyNamespace] = p.Service.Namespace
	return md
}

// Marked tells what a sidecar has written of the service that a record is of.
func Marked(md map[string]string) (s mesh.Service, ok bool) {
	s = mesh.Service{Namespace: md[keyNamespace], Version: md[keyVersion], Protocol: md[keyProtocol]}
	return s, s.Protocol != ""
}

// Read makes an entry of a record with that metadata. It is direct if no sidecar has written it.
func Read(address string, weight int, md map[string]string) Entry {
	e := Entry{Instance: mesh.Instance{Address: address, Weight: weight, Zone: md[keyZone], Identity: md[keyIdentity], Protocol: md[keyProtocol]}, Itself: md[keyItself] == strconv.FormatBool(true)}
	var labels map[string]string
	for key, value := range md {
		if name, ok := strings.CutPrefix(key, keyLabel); ok {
			if labels == nil {
				labels = make(map[string]string, len(md))
			}
			labels[name] = value
		}
	}
	e.Labels = mesh.LabelsOf(labels)
	if host, _, err := net.SplitHostPort(address); err == nil && md[keyPort] != "" {
		e.App = net.JoinHostPort(host, md[keyPort])
	}
	return e
}

// ReadForeign is Read for a record of a service in a place that all namespaces have. It is false when the record is another namespace's, or
// of no address: anybody may write there.
func ReadForeign(s mesh.Service, address string, weight int, md map[string]string) (e Entry, ok bool) {
	of, ours := Marked(md)
	if ours && of.Namespace != s.Namespace || !isAddress(address) {
		return e, false
	}
	e = Read(address, weight, md)
	if !ours {
		e.Direct, e.Protocol = true, s.Protocol
	}
	return e, true
}

// isAddress tells whether that is HOST:PORT.
func isAddress(text string) bool {
	host, port, err := net.SplitHostPort(text)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil && n > 0 && host != "" && !strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' || r == '@' })
}
