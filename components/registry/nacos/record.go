package nacos

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/nacos-group/nacos-sdk-go/v2/model"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

const (
	noGroup = "DEFAULT_GROUP"
	cluster = "DEFAULT"
)

// at is a service as Nacos names it.
func (o Options) at(s registry.Service) nacosconn.Service {
	group := noGroup
	if s.Group != "" {
		group = nacosconn.Escape(s.Group, "::", func(c byte) bool { return nacosconn.IsWord(c) || c == '.' || c == '_' })
	}
	return nacosconn.Service{Namespace: nacosconn.Namespace(o.Namespaces, s.Namespace), Group: group,
		Name: nacosconn.Escape(s.Name, "%", func(c byte) bool { return c > ' ' && c < 127 && c != '@' && c != '%' })}
}

// instance is a record as Nacos keeps it.
func instance(r registry.Record) (model.Instance, error) {
	ip, text, err := net.SplitHostPort(r.Address)
	if err != nil {
		return model.Instance{}, fmt.Errorf("%w: %w", components.ErrInvalid, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return model.Instance{}, fmt.Errorf("%w: address %q: %w", components.ErrInvalid, r.Address, err)
	}
	return model.Instance{Ip: ip, Port: port, Weight: float64(r.Weight) / unit(r.Service), Healthy: true, Enable: true, Ephemeral: true,
		ClusterName: cmp.Or(r.Cluster, cluster), Metadata: maps.Clone(r.Metadata)}, nil
}

// unit is what a weight of 1 in Nacos is here.
func unit(s registry.Service) float64 {
	if s.Foreign() {
		return 100
	}
	return 1
}

// host is an instance that is listed. It is not changed.
type host struct {
	address  string
	weight   float64
	metadata map[string]string
}

func (h host) same(other host) bool {
	return h.address == other.address && h.weight == other.weight && maps.Equal(h.metadata, other.metadata)
}

// hostsOf are the instances that may be called, one of each address, sorted.
func hostsOf(s model.Service) []host {
	hosts := make([]host, 0, len(s.Hosts))
	for _, in := range s.Hosts {
		if in.Enable && (in.Healthy || s.ReachProtectionThreshold) {
			hosts = append(hosts, host{net.JoinHostPort(in.Ip, strconv.FormatUint(in.Port, 10)), in.Weight, in.Metadata})
		}
	}
	return orderly(hosts)
}

func orderly(hosts []host) []host {
	slices.SortStableFunc(hosts, func(a, b host) int { return strings.Compare(a.address, b.address) })
	return slices.CompactFunc(hosts, func(a, b host) bool { return a.address == b.address })
}

func weight(w float64) int {
	switch {
	case !(w > 0): // nor is it a number
		return 0
	case w > math.MaxInt32:
		return math.MaxInt32
	}
	return max(1, int(math.Round(w)))
}

func records(s registry.Service, hosts []host) []registry.Record {
	all := make([]registry.Record, 0, len(hosts))
	for _, h := range hosts {
		all = append(all, registry.Record{Service: s, Address: h.address, Weight: weight(h.weight * unit(s)), Metadata: maps.Clone(h.metadata)})
	}
	return all
}
