package registrytest

import (
	"context"
	"strings"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// naming passes each service through a mapping that should be one to one, and is not.
func naming(mapped func(registry.Service) registry.Service) func(registry.Driver) registry.Driver {
	return func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full),
			register: func(ctx context.Context, r registry.Record) error {
				r.Service = mapped(r.Service)
				return d.Register(ctx, r)
			},
			deregister: func(ctx context.Context, s registry.Service, address string) error {
				return d.Deregister(ctx, mapped(s), address)
			},
			watch: func(ctx context.Context, s registry.Service, report reporter) error {
				return d.Watch(ctx, mapped(s), func(all []registry.Record) error {
					for i := range all {
						all[i].Service = s
					}
					return report(all)
				})
			}}
	}
}

var serviceMutants = []componenttest.Mutant[registry.Driver]{
	{Name: "groups are not kept apart", Break: naming(func(s registry.Service) registry.Service { s.Group = ""; return s })},
	{Name: "namespaces are not kept apart", Break: naming(func(s registry.Service) registry.Service { s.Namespace = "x"; return s })},
	{Name: "names are in lower case", Break: naming(func(s registry.Service) registry.Service { s.Name = strings.ToLower(s.Name); return s })},
	{Name: "names are cut at a colon", Break: naming(func(s registry.Service) registry.Service {
		s.Name, _, _ = strings.Cut(s.Name, ":")
		s.Name = strings.TrimPrefix(s.Name, "com.foo.Bar")
		s.Name = "x" + strings.ReplaceAll(s.Name, "/", ".") // as do those that make file names of them
		return s
	})},
	{Name: "group and name run together", Break: naming(func(s registry.Service) registry.Service {
		return registry.Service{Namespace: s.Namespace, Name: s.Group + s.Name}
	})},
}
