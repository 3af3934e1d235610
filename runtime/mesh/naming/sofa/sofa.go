// Package sofa is how SOFARPC's providers and consumers (5.x) find each other in ZooKeeper and Nacos.
//
//   - ZooKeeper: a node below /sofa-rpc/INTERFACE/providers, its name the provider's URL, its content one byte.
//   - Nacos: namespace sofa-rpc, cluster default-cluster, service INTERFACE[:UNIQUEID]:DEFAULT, the same pairs as metadata.
//
// A consumer takes a provider whose uniqueId is there and equal to its own, even if that is empty; rpcVer and appName decide which headers of
// tracing it sends. The times and numbers of processes that SOFARPC writes besides are left out: a record must be the same when the sidecar
// is started anew.
package sofa

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
)

const (
	rpcVersion = "51302" // of SOFARPC 5.13.2
	content    = "\x01"
)

// Form implements naming.Form. A service's group is SOFARPC's uniqueId.
type Form struct{}

var _ naming.Form = Form{}

// Place implements naming.Form. Version and group are in it so that each may be registered at one address.
func (Form) Place(driver string, s mesh.Service) (at registry.Service, ok bool) {
	switch driver {
	case "zookeeper":
		return registry.Service{Namespace: "sofa-rpc", Group: cmp.Or(s.Version, naming.DefaultVersion) + ":" + s.Group, Name: s.Name,
			Folder: "/sofa-rpc/" + s.Name + "/providers"}, true
	case "nacos":
		name := s.Name + ":DEFAULT"
		if s.Group != "" {
			name = s.Name + ":" + s.Group + ":DEFAULT"
		}
		return registry.Service{Namespace: "sofa-rpc", Name: name, Cluster: "default-cluster"}, true
	}
	return at, false
}

// Record implements naming.Form.
func (Form) Record(at registry.Service, p naming.Provider) registry.Record {
	mark := naming.MarkForeign(p)
	u := naming.URL{Scheme: "bolt", Address: p.Instance.Address, Params: []naming.Param{
		{Key: "version", Value: cmp.Or(p.Service.Version, naming.DefaultVersion)}, {Key: "accepts", Value: "100000"}, {Key: "appName", Value: p.App},
		{Key: "weight", Value: strconv.Itoa(p.Instance.Weight)}, {Key: "language", Value: "java"}, {Key: "interface", Value: p.Service.Name},
		{Key: "timeout", Value: "0"}, {Key: "serialization", Value: "hessian2"}, {Key: "protocol", Value: "bolt"}, {Key: "delay", Value: "-1"},
		{Key: "dynamic", Value: "true"}, {Key: "uniqueId", Value: p.Service.Group}, {Key: "rpcVer", Value: rpcVersion},
	}}
	for _, key := range slices.Sorted(maps.Keys(mark)) {
		u.Params = append(u.Params, naming.Param{Key: key, Value: mark[key]})
	}
	r := registry.Record{Service: at, Address: p.Instance.Address, Weight: p.Instance.Weight}
	if at.Folder == "" {
		r.Metadata = u.Map()
	} else {
		r.Node, r.Data = u.Node(), content
	}
	return r
}

// Entries implements naming.Form: those of s's version and uniqueId that speak Bolt.
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
			weight = naming.Weight(params["weight"])
		}
		if params["protocol"] != "bolt" || params["uniqueId"] != s.Group ||
			cmp.Or(params["version"], naming.DefaultVersion) != cmp.Or(s.Version, naming.DefaultVersion) {
			continue
		}
		if e, ok := naming.ReadForeign(s, address, weight, params); ok {
			out = append(out, e)
		}
	}
	return out
}
