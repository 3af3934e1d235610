// Package naming is how services are written into registries and read back: in our own form, for sidecars, and in that of the ecosystem
// that a protocol belongs to, for consumers and providers that have none. Each form is a package below; what is here holds for all.
//
// A publication is written in both. Who reads takes both for one: see merge.
package naming

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// Provider is an application that serves a service through its sidecar.
type Provider struct {
	Service  mesh.Service
	Instance mesh.Instance // its Address is the sidecar's
	App      string        // its name
	Port     int           // where it listens, beside the sidecar
	// Itself: it writes its ecosystem's record by itself, with the sidecar's address. See settle.
	Itself bool
	// Ours: it is written in our form alone.
	Ours bool
}

// Entry is one record that was read.
type Entry struct {
	mesh.Instance
	// App is the address of the application's own port, where a sidecar has written the record and says so.
	App string
	// Itself: the application writes another record of it.
	Itself bool
}

// Form is how records look, and where they are. Its methods are pure.
type Form interface {
	// Place is where the records of a service are in a registry that the driver of that name reaches; false: the form has none for it.
	Place(driver string, s mesh.Service) (at registry.Service, ok bool)
	// Record writes a provider down.
	Record(at registry.Service, p Provider) registry.Record
	// Entries reads what is of that service; anything else is left out.
	Entries(s mesh.Service, records []registry.Record) []Entry
}

// Names are the services in one registry.
type Names struct {
	// Registry answers the front to ask; it may change with the configuration.
	Registry func() (*registry.Registry, error)
	Native   Form
	// Other is the form of a protocol's ecosystem; nil: it has none, or none is wanted.
	Other func(protocol string) Form
}

var _ mesh.Source = Names{}

// spot is a place and its form.
type spot struct {
	form Form
	at   registry.Service
}

// spots are where a service's records are, ours first.
func (n Names) spots(driver string, s mesh.Service) []spot {
	all := []Form{n.Native}
	if n.Other != nil {
		if f := n.Other(s.Protocol); f != nil {
			all = append(all, f)
		}
	}
	var found []spot
	for _, f := range all {
		if at, ok := f.Place(driver, s); ok {
			found = append(found, spot{f, at})
		}
	}
	return found
}

// Records are what is to be registered for a provider.
func (n Names) Records(front *registry.Registry, p Provider) []registry.Record {
	var all []registry.Record
	for i, s := range n.spots(front.Driver(), p.Service) {
		if i == 0 || !p.Itself && !p.Ours {
			all = append(all, s.form.Record(s.at, p))
		}
	}
	return all
}

// Check refuses what cannot be registered, whatever the registry and the form.
func (p Provider) Check() error {
	s := registry.Service{Namespace: p.Service.Namespace, Group: p.Service.Version + ":" + p.Service.Group, Name: p.Service.Name}
	return registry.Record{Service: s, Address: p.Instance.Address, Weight: p.Instance.Weight, Metadata: MarkForeign(p)}.Check()
}

// Watch reports a service's instances. See mesh.Source.
func (n Names) Watch(ctx context.Context, s mesh.Service, report func([]mesh.Instance) error) error {
	front, err := n.Registry()
	if err != nil {
		return err
	}
	spots := n.spots(front.Driver(), s)
	if len(spots) == 1 { // as most have: nothing more is kept, nor run, for each of thousands of services
		return front.Watch(ctx, spots[0].at, func(records []registry.Record) error {
			return report(merge(spots[0].form.Entries(s, records)))
		})
	}
	var mu sync.Mutex
	lists := make([][]Entry, len(spots)) // nil: not read yet
	group, ctx := errgroup.WithContext(ctx)
	for i, spot := range spots {
		group.Go(func() error {
			return front.Watch(ctx, spot.at, func(records []registry.Record) error {
				mu.Lock()
				defer mu.Unlock()
				lists[i] = append([]Entry{}, spot.form.Entries(s, records)...)
				if slices.ContainsFunc(lists, func(l []Entry) bool { return l == nil }) {
					return nil
				}
				return report(merge(slices.Concat(settle(lists[0], lists[1]), lists[1])))
			})
		})
	}
	return group.Wait()
}

// settle is what counts of our records beside those of applications that register themselves: one of such an application counts while its own is
// there with the same address, since it is the application that says when it serves, and how much of that one's weight it has.
func settle(ours, theirs []Entry) []Entry {
	if !slices.ContainsFunc(ours, func(e Entry) bool { return e.Itself }) {
		return ours
	}
	weights := map[string]int{}
	for _, e := range theirs {
		weights[e.Address] = max(weights[e.Address], e.Weight)
	}
	var out []Entry
	for _, e := range ours {
		if e.Itself {
			weight, there := weights[e.Address]
			if !there {
				continue
			}
			e.Weight = scaled(e.Weight, weight)
		}
		out = append(out, e)
	}
	return out
}

// usual is the weight of an instance of which nobody says another.
const usual = 100

// scaled is one weight by the other, at least 1 unless one is 0.
func scaled(a, b int) int {
	if a == 0 || b == 0 {
		return 0
	}
	return max(1, int(int64(a)*int64(b)/usual))
}

// merge makes one instance of each process: of records with one address the first counts, which is ours, or else the first that may be
// called; and an application that has registered itself as well is called through its sidecar.
func merge(all []Entry) []mesh.Instance {
	seen := map[string]bool{}
	for _, e := range all {
		if e.App != "" {
			seen[e.App] = true
		}
	}
	out := make([]mesh.Instance, 0, len(all))
	texts := map[string]string{} // what many instances have is in memory once
	once := func(s string) string {
		if there, ok := texts[s]; ok {
			return there
		}
		texts[s] = s
		return s
	}
	for _, turn := range [...]struct {
		direct bool
		least  int
	}{{false, 0}, {true, 1}, {true, 0}} {
		for _, e := range all {
			if e.Direct == turn.direct && e.Weight >= turn.least && !seen[e.Address] {
				seen[e.Address] = true
				in := e.Instance
				in.Zone, in.Identity, in.Protocol, in.Labels = once(in.Zone), once(in.Identity), once(in.Protocol), mesh.Labels(once(string(in.Labels)))
				out = append(out, in)
			}
		}
	}
	slices.SortFunc(out, func(a, b mesh.Instance) int { return strings.Compare(a.Address, b.Address) })
	return out
}

// DefaultVersion is that of Bolt's services that do not say theirs.
const DefaultVersion = "1.0"

// Canonical is a service by the one name that it has in directories and publications. SOFARPC writes INTERFACE:VERSION:UNIQUEID for a Bolt
// service, of which the last may be missing, and Dubbo 0.0.0 for no version on the wire.
func Canonical(s mesh.Service) mesh.Service {
	switch s.Protocol {
	case "bolt":
		name, rest, _ := strings.Cut(s.Name, ":")
		version, id, _ := strings.Cut(rest, ":")
		s.Name, s.Version, s.Group = name, cmp.Or(version, s.Version, DefaultVersion), cmp.Or(id, s.Group)
	case "dubbo":
		if s.Version == "0.0.0" {
			s.Version = ""
		}
	}
	return s
}

// Apart is what tells the services of one application apart: of two with the same one takes the place of the other. Only Bolt and Dubbo know versions.
func Apart(s mesh.Service) (name, group, version string) {
	s = Canonical(s)
	if s.Protocol == "bolt" || s.Protocol == "dubbo" {
		version = s.Version
	}
	return s.Name, s.Group, version
}

// Join is HOST:PORT.
func Join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
