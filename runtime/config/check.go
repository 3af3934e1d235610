package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/runtime/hint"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
)

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// check holds the settings against each other, and fills in what follows from others. Its words never quote the value of
// a setting but through bad, which knows what comes from a reference.
type check struct {
	*loader
}

// finish checks what takes the whole configuration to see.
func (l *loader) finish(c *Config) {
	slices.SortFunc(c.Components, func(a, b Component) int {
		return cmp.Or(cmp.Compare(a.Capability, b.Capability), cmp.Compare(a.Name, b.Name))
	})
	if l.tree.root == nil {
		return // what cannot be read is not checked
	}
	c.SecretsFirst = l.orderSecrets(c.Components)
	k := &check{loader: l}
	k.app(&c.App)
	k.api(c.API)
	k.listeners(c)
	k.mesh(c)
	k.tracing(c.Telemetry.Tracing)
	k.drain(c.Drain)
	if c.Reload.Timeout == 0 {
		k.bad("reload.timeout", c.Reload.Timeout, "leaves no time for a component to become ready")
	}
	k.values(*c)
}

// fault notes what is wrong with a setting.
func (k *check) fault(path string, format string, args ...any) {
	names := strings.Split(path, ".")
	for i := range names {
		if _, n := find(k.tree.root, names[:i+1]...); n != nil && k.tree.places[n.Line].faulty && k.flags[path] == "" {
			return // what is there is not what was meant
		}
	}
	k.note(k.settingFault(path, fmt.Sprintf(format, args...)))
}

// bad notes that a setting's value is not what it must be: "app.id: \"X\" is not a DNS label".
func (k *check) bad(path string, value any, format string, args ...any) {
	shown := fmt.Sprintf("%q", clip(fmt.Sprint(value)))
	if _, n := find(k.tree.root, strings.Split(path, ".")...); n != nil && k.flags[path] == "" {
		shown = k.shown(n.Line)
	}
	k.fault(path, "%s %s", shown, fmt.Sprintf(format, args...))
}

// spelt is a value for comparing with those that are known: a hint would give away what comes from a reference.
func (k *check) spelt(path, value string) string {
	if _, n := find(k.tree.root, strings.Split(path, ".")...); n != nil && k.flags[path] == "" {
		return k.source.spelt(n.Line)
	}
	return value
}

func (k *check) app(a *App) {
	switch {
	case a.ID == "":
		k.fault("app.id", "the application has no name: write one, or give -app-id")
	case !dnsLabel.MatchString(a.ID):
		k.bad("app.id", a.ID, "is not a DNS label: a-z, 0-9 and - inside, at most 63")
	}
	if !dnsLabel.MatchString(a.Namespace) {
		k.bad("app.namespace", a.Namespace, "is not a DNS label: a-z, 0-9 and - inside, at most 63")
	}
	k.port("app.port", a.Port)
	seen := map[[3]string]bool{}
	for i := range a.Services {
		s, path := &a.Services[i], fmt.Sprintf("app.services.%d", i)
		s.Port, s.Protocol, s.Weight = cmp.Or(s.Port, a.Port), cmp.Or(s.Protocol, a.Protocol), cmp.Or(s.Weight, 100)
		k.service(path, *s)
		name, group, version := naming.Apart(mesh.Service{Name: s.Name, Group: s.Group, Version: s.Version, Protocol: s.Protocol})
		id, what := [3]string{name, group, version}, "name and group"
		if version != "" {
			what = "name, group and version"
		}
		if seen[id] {
			k.fault(path, "the service is listed twice with this %s: only the last would be published", what)
		}
		seen[id] = true
	}
}

func (k *check) service(path string, s Service) {
	switch {
	case s.Name == "":
		k.fault(path+".name", "the service has no name")
	case len(s.Name) > 253 || strings.ContainsFunc(s.Name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }):
		k.bad(path+".name", s.Name, "is not the name of a service: visible ASCII letters without /, at most 253")
	}
	k.port(path+".port", s.Port)
	if s.Port == 0 {
		k.fault(path+".port", "the service has no port, and neither has the application")
	}
	if s.Weight < 0 {
		k.bad(path+".weight", s.Weight, "is negative")
	}
}

func (k *check) api(a API) {
	if a.MaxMessageBytes <= 0 {
		k.bad("api.max_message_bytes", a.MaxMessageBytes, "lets no message pass")
	}
	if a.MaxInFlight < a.MaxMessageBytes {
		k.fault("api.max_in_flight_bytes", "it is less than api.max_message_bytes, so that the largest message could never be handled")
	}
	if len(a.Socket) > 107 { // sun_path has 108 bytes with its end
		k.fault("api.socket", "the path is longer than the 107 bytes that a socket can have")
	}
}

func (k *check) mesh(c *Config) {
	m := c.Mesh
	if m.Registry != "" {
		k.isComponent("mesh.registry", m.Registry, registryCapability, "registry", c.Components)
	} else if !k.written("mesh.registry") {
		k.registryChosen(c.Components)
	}
	if advertised := m.Inbound.Advertise; advertised != "" {
		host, _, err := net.SplitHostPort(advertised)
		if err != nil {
			host = advertised
		}
		ip, _ := netip.ParseAddr(host)
		switch {
		case host == "" || strings.ContainsAny(host, " /@[]"):
			k.bad("mesh.inbound.advertise", advertised, "is not HOST or HOST:PORT")
		case ip.Unmap().IsUnspecified(): // which callers would take for their own machine
			k.bad("mesh.inbound.advertise", advertised, "leads nowhere: write the address of this machine that callers reach, or leave it out")
		}
	}
	k.atLeastOne("mesh.inbound.concurrency", m.Inbound.Concurrency)
	k.atLeastOne("mesh.max_hops", m.MaxHops)
	if m.Outbound.SelfCalls < 0 {
		k.bad("mesh.outbound.self_calls", m.Outbound.SelfCalls, "is negative")
	}
	for i, name := range m.Outbound.Watch {
		k.serviceName(fmt.Sprintf("mesh.outbound.watch.%d", i), name)
	}
	for i, t := range m.Outbound.TCP {
		k.serviceName(fmt.Sprintf("mesh.outbound.tcp.%d.service", i), t.Service)
	}
	k.tls(m.TLS)
	k.policies("mesh.", &m.Policies)
	k.policiesFrom(c)
}

// registryChosen holds that one of the registries is used: without mesh.registry that is the one called default, and who wrote others only
// would have a mesh that knows of nobody.
func (k *check) registryChosen(all []Component) {
	names := named(registryCapability, all)
	nameless := func(c Component) bool { return c.Capability == registryCapability && c.Driver == "" } // it may be no name that stands there
	if len(names) == 0 || slices.Contains(names, "default") || slices.ContainsFunc(all, nameless) {
		return
	}
	key, _ := find(k.tree.root, registryCapability, names[0])
	k.note(k.source.fault(key.Line, fmt.Sprintf("mesh.registry: it is not set, and no registry component is called default: set it to %s", strings.Join(names, " or "))))
}

func (k *check) serviceName(path, name string) {
	namespace, service, both := strings.Cut(name, "/")
	if name == "" || strings.Contains(name, " ") || both && (service == "" || strings.Contains(service, "/") || !dnsLabel.MatchString(namespace)) {
		k.bad(path, name, "is not the name of a service: write NAME or NAMESPACE/NAME")
	}
}

// policies checks those below a path.
func (k *check) policies(below string, p *mesh.Policies) {
	p.Check(func(path string, value any, what string, known []string) {
		path = below + path
		if known != nil {
			what += hint.For(k.spelt(path, fmt.Sprint(value)), known)
		}
		if value == "" {
			k.fault(path, "it %s", what)
			return
		}
		k.bad(path, value, "%s", what)
	})
}

func (k *check) policiesFrom(c *Config) {
	from := c.Mesh.PoliciesFrom
	switch {
	case from.Component == "" && from.Key != "":
		k.fault("mesh.policies_from.component", "it says not which configuration component the key is in")
	case from.Component == "":
	case from.Key == "":
		k.fault("mesh.policies_from.key", "it says not which key the policies are in")
	default:
		k.isComponent("mesh.policies_from.component", from.Component, configCapability, "configuration", c.Components)
	}
}

// isComponent holds that a setting names a component of a capability.
func (k *check) isComponent(path, name, capability, kind string, all []Component) {
	if names := named(capability, all); !slices.Contains(names, name) {
		k.bad(path, name, "is no %s component%s", kind, hint.For(k.spelt(path, name), names))
	}
}

// named are the names of a capability's components.
func named(capability string, all []Component) []string {
	var names []string
	for _, c := range all {
		if c.Capability == capability {
			names = append(names, c.Name)
		}
	}
	return names
}

func (k *check) tls(t TLS) {
	for _, one := range [...]struct{ name, file string }{{"certificate", t.Certificate}, {"key", t.Key}, {"ca", t.CA}} {
		if path := "mesh.tls." + one.name; t.On() && one.file == "" {
			k.fault(path, "mutual TLS needs it: write the path of a file")
		} else if !t.On() && one.file != "" {
			k.fault(path, "it is for mutual TLS: write mode: strict or mode: permissive beside it")
		}
	}
}

func (k *check) tracing(t Trace) {
	if !(t.Ratio >= 0 && t.Ratio <= 1) { // which NaN fails too
		k.bad("telemetry.tracing.ratio", t.Ratio, "is not a share from 0 to 1")
	}
	if host, port, err := net.SplitHostPort(t.Endpoint); t.Endpoint != "" && (err != nil || host == "" || port == "") {
		k.bad("telemetry.tracing.endpoint", t.Endpoint, "is not an address: write HOST:PORT")
	}
}

func (k *check) drain(d Drain) {
	if d.Max >= 0 && d.Propagation > d.Max {
		k.fault("drain.propagation", "it is longer than drain.max, the whole of draining")
	}
}

// values checks what the types of settings say: no duration is negative, and a text with an enum tag is one of those.
func (k *check) values(v any) {
	visit(reflect.ValueOf(v), func(path []string, f field, v reflect.Value) {
		if complaint := f.complaint(v); complaint != "" {
			name := strings.Join(path, ".")
			k.bad(name, v.Interface(), "%s%s", complaint, f.suggest(k.spelt(name, fmt.Sprint(v.Interface()))))
		}
	})
}

func (k *check) port(path string, port int) {
	if port < 0 || port > 65535 {
		k.bad(path, port, "is not a port: it is a number from 1 to 65535, or 0")
	}
}

func (k *check) atLeastOne(path string, n int) {
	if n < 1 {
		k.bad(path, n, "is less than 1")
	}
}
