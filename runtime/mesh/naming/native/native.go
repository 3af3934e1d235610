// Package native is how sidecars write each other into a registry, of any driver: the record's name is the service's, its address the
// inbound port, its metadata that of naming.Mark.
package native

import (
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
)

// Form implements naming.Form.
type Form struct {
	// Direct says whether a record without any of that metadata is an application's own, which has no sidecar; nil: it is a sidecar's.
	Direct func() bool
}

var _ naming.Form = Form{}

// Place implements naming.Form. Of the protocols whose applications serve several versions of a service at once, a version is part of
// the place: an address can be in a place once.
func (Form) Place(_ string, s mesh.Service) (registry.Service, bool) {
	group := s.Group
	if v := versionOf(s); v != "" {
		group = v + ":" + s.Group
	}
	return registry.Service{Namespace: s.Namespace, Group: group, Name: s.Name}, true
}

// versionOf is the version that tells services apart; "" if there is none, or it is the one that is meant when none is named.
func versionOf(s mesh.Service) string {
	switch {
	case s.Protocol != "bolt" && s.Protocol != "dubbo", s.Protocol == "bolt" && s.Version == naming.DefaultVersion:
		return ""
	}
	return s.Version
}

// Record implements naming.Form.
func (Form) Record(at registry.Service, p naming.Provider) registry.Record {
	return registry.Record{Service: at, Address: p.Instance.Address, Weight: p.Instance.Weight, Metadata: naming.Mark(p)}
}

// Entries implements naming.Form: those of s's version, and those that its protocol can be spoken with, where it names them.
func (f Form) Entries(s mesh.Service, records []registry.Record) []naming.Entry {
	out := make([]naming.Entry, 0, len(records))
	direct := f.Direct != nil && f.Direct()
	for _, r := range records {
		of, _ := naming.Marked(r.Metadata)
		if s.Version != "" && of.Version != s.Version || !speaks(of.Protocol, s.Protocol) {
			continue
		}
		e := naming.Read(r.Address, r.Weight, r.Metadata)
		e.Direct = direct && !naming.Written(r.Metadata)
		out = append(out, e)
	}
	return out
}

// speaks tells whether an application that was published with a protocol can be called by one. HTTP/1.1 is served beside gRPC by many, and by
// those that say nothing, but by none of the framed protocols.
func speaks(published, by string) bool {
	switch by {
	case "":
		return true
	case "http":
		return published != "bolt" && published != "dubbo" && published != mesh.TCP
	}
	return published == by
}
