// Package dubbo is how Dubbo's providers and consumers (2.7 and 3.x, protocol dubbo) find each other in ZooKeeper and Nacos, by interface.
//
//   - ZooKeeper: a node below /dubbo/INTERFACE/providers, its name the provider's URL.
//   - Nacos: public namespace, service providers:INTERFACE:VERSION:GROUP, the same pairs as metadata, with path and protocol.
//
// Nothing is written for applications as a whole (3.x): a consumer that finds no such mapping takes the interface's. What a provider has
// registered for its application alone is not read.
package dubbo

import (
	"maps"
	"slices"
	"strconv"

	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
)

// Form implements naming.Form.
type Form struct{}

var _ naming.Form = Form{}

// Place implements naming.Form.
func (Form) Place(driver string, s mesh.Service) (at registry.Service, ok bool) {
	switch driver {
	case "zookeeper":
		return registry.Service{Namespace: "dubbo", Group: s.Version + ":" + s.Group, Name: s.Name, Folder: "/dubbo/" + s.Name + "/providers"}, true
	case "nacos":
		return registry.Service{Namespace: "public", Name: "providers:" + s.Name + ":" + s.Version + ":" + s.Group, Cluster: "DEFAULT"}, true
	}
	return at, false
}

// Record implements naming.Form.
func (Form) Record(at registry.Service, p naming.Provider) registry.Record {
	u := naming.URL{Scheme: "dubbo", Address: p.Instance.Address, Path: p.Service.Name, Params: []naming.Param{
		{Key: "application", Value: p.App}, {Key: "category", Value: "providers"}, {Key: "deprecated", Value: "false"}, {Key: "dubbo", Value: "2.0.2"},
		{Key: "dynamic", Value: "true"}, {Key: "generic", Value: "false"}, {Key: "group", Value: p.Service.Group},
		{Key: "interface", Value: p.Service.Name}, {Key: "side", Value: "provider"}, {Key: "version", Value: p.Service.Version},
		{Key: "weight", Value: strconv.Itoa(p.Instance.Weight)},
	}}
	u.Params = slices.DeleteFunc(u.Params, func(p naming.Param) bool { return p.Value == "" })
	mark := naming.MarkForeign(p)
	for _, key := range slices.Sorted(maps.Keys(mark)) {
		u.Params = append(u.Params, naming.Param{Key: key, Value: mark[key]})
	}
	r := registry.Record{Service: at, Address: p.Instance.Address, Weight: p.Instance.Weight}
	if at.Folder != "" {
		r.Node = u.Node()
		return r
	}
	r.Metadata = u.Map()
	r.Metadata["path"], r.Metadata["protocol"] = p.Service.Name, "dubbo"
	return r
}

// Entries implements naming.Form: those of s's version and group that speak dubbo.
func (Form) Entries(s mesh.Service, records []registry.Record) []naming.Entry {
	var out []naming.Entry
	for _, r := range records {
		address, params := r.Address, r.Metadata
		weight := naming.WeightInNacos(r)
		if r.Folder != "" {
			u, read, ok := naming.ParseNode(r.Node)
			if !ok {
				continue
			}
			address, params = u.Address, read
			params["protocol"] = u.Scheme
			weight = naming.Weight(params["weight"])
		}
		if params["protocol"] != "dubbo" || params["version"] != s.Version || params["group"] != s.Group {
			continue
		}
		if params["enabled"] == "false" || params["disabled"] == "true" {
			weight = 0 // it is there: that is no drop, which might not be believed
		}
		if e, ok := naming.ReadForeign(s, address, weight, params); ok {
			out = append(out, e)
		}
	}
	return out
}
