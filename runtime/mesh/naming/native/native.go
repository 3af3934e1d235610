// Package native is how sidecars write each other into a registry: the record's name is the service's, its address the
// inbound port, its metadata the keys below.
package native

import (
	"context"
	"strings"

	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// Keys of a record's metadata.
const (
	keyProtocol = "outrigger.protocol" // what the application speaks
	keyVersion  = "outrigger.version"  // of the service
	keyZone     = "outrigger.zone"
	keyLabel    = "label." // followed by the label's name
)

// Record writes an instance down.
func Record(s mesh.Service, in mesh.Instance) registry.Record {
	md := map[string]string{}
	for key, value := range map[string]string{keyProtocol: s.Protocol, keyVersion: s.Version, keyZone: in.Zone} {
		if value != "" {
			md[key] = value
		}
	}
	for name, value := range in.Labels {
		md[keyLabel+name] = value
	}
	return registry.Record{Service: place(s), Address: in.Address, Weight: in.Weight, Metadata: md}
}

func place(s mesh.Service) registry.Service {
	return registry.Service{Namespace: s.Namespace, Group: s.Group, Name: s.Name}
}

// Instances reads records back: those of s's version and protocol, where it names them.
func Instances(s mesh.Service, records []registry.Record) []mesh.Instance {
	out := make([]mesh.Instance, 0, len(records))
	for _, r := range records {
		if s.Version != "" && r.Metadata[keyVersion] != s.Version || s.Protocol != "" && r.Metadata[keyProtocol] != s.Protocol {
			continue
		}
		in := mesh.Instance{Address: r.Address, Weight: r.Weight, Zone: r.Metadata[keyZone], Labels: map[string]string{}}
		for key, value := range r.Metadata {
			if name, ok := strings.CutPrefix(key, keyLabel); ok {
				in.Labels[name] = value
			}
		}
		out = append(out, in)
	}
	return out
}

// Source makes a registry a source of the mesh's directory.
type Source struct {
	// Registry answers the front to ask; it may change with the configuration.
	Registry func() (*registry.Registry, error)
}

var _ mesh.Source = Source{}

// Watch reports a service's instances. See mesh.Source.
func (s Source) Watch(ctx context.Context, service mesh.Service, report func([]mesh.Instance) error) error {
	front, err := s.Registry()
	if err != nil {
		return err
	}
	return front.Watch(ctx, place(service), func(records []registry.Record) error {
		return report(Instances(service, records))
	})
}
