package config

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// check holds the settings against each other. A fault stands where its setting is written, or names its flag.
type check struct {
	*loader
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// protocols are what an application can speak on its port.
var protocols = []string{"http", "grpc"}

// finish checks what takes the whole configuration to see, and fills in what follows from the rest.
func (l *loader) finish(c *Config) {
	slices.SortFunc(c.Components, func(a, b Component) int {
		return cmp.Or(cmp.Compare(a.Capability, b.Capability), cmp.Compare(a.Name, b.Name))
	})
	if l.tree.root == nil {
		return // what cannot be read is not checked
	}
	c.SecretsFirst = l.orderSecrets(c.Components)
	k := &check{loader: l}
	settings, _ := l.split(l.tree.root)
	l.noSecrets(settings, "")
	k.app(c)
	k.listeners(c)
	k.api(c)
	k.mesh(c)
	k.telemetry(c)
	k.times(c)
}

// written tells whether a setting is in the file or comes from a flag.
func (k *check) written(path string) bool {
	_, n := find(k.tree.root, strings.Split(path, ".")...)
	return n != nil || k.flags[path] != ""
}

// fault notes what is wrong with a setting: at its value, or at the innermost section around it that is written.
func (k *check) fault(path string, format string, args ...any) {
	message := path + ": " + fmt.Sprintf(format, args...)
	if flag := k.flags[path]; flag != "" {
		k.faults = append(k.faults, Fault{File: "flag " + flag, Message: message})
		return
	}
	names := strings.Split(path, ".")
	for i := len(names); i > 0; i-- {
		key, value := find(k.tree.root, names[:i]...)
		if value == nil {
			continue
		}
		at := value.Line
		if ref := k.tree.places[at].ref; ref != nil && ref.broken {
			return
		}
		if i < len(names) && key != nil {
			at = key.Line
		}
		k.loader.fault(at, "%s", k.redact(value, message))
		return
	}
	k.faultAt(1, 1, "%s", message)
}

func (k *check) app(c *Config) {
	a := &c.App
	switch {
	case a.ID == "":
		k.fault("app.id", "the application has no name: write one, or give -app-id")
	case !dnsLabel.MatchString(a.ID):
		k.fault("app.id", "%q is not a DNS label: a-z, 0-9 and - inside, at most 63", clip(a.ID))
	}
	if !dnsLabel.MatchString(a.Namespace) {
		k.fault("app.namespace", "%q is not a DNS label: a-z, 0-9 and - inside, at most 63", clip(a.Namespace))
	}
	k.port("app.port", a.Port)
	k.oneOf("app.protocol", a.Protocol, protocols...)
	seen := map[string]bool{}
	for i := range a.Services {
		k.service(a, i, seen)
	}
}

func (k *check) service(a *App, i int, seen map[string]bool) {
	s, path := &a.Services[i], fmt.Sprintf("app.services.%d", i)
	s.Port, s.Protocol, s.Weight = cmp.Or(s.Port, a.Port), cmp.Or(s.Protocol, a.Protocol), cmp.Or(s.Weight, 100)
	if s.Name == "" || len(s.Name) > 253 || strings.ContainsFunc(s.Name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		k.fault(path+".name", "%q is not the name of a service: visible ASCII letters without /, at most 253", clip(s.Name))
	}
	k.port(path+".port", s.Port)
	if s.Port == 0 {
		k.fault(path+".port", "the service has no port, and neither has the application")
	}
	k.oneOf(path+".protocol", s.Protocol, protocols...)
	if s.Weight < 0 {
		k.fault(path+".weight", "%d is negative", s.Weight)
	}
	id := strings.Join([]string{s.Name, s.Group, s.Version, s.Protocol}, "\x00")
	if seen[id] {
		k.fault(path, "the service %q is listed twice with this group, version and protocol", clip(s.Name))
	}
	seen[id] = true
}

func (k *check) api(c *Config) {
	k.oneOf("api.access", c.API.Access, "same-user", "token", "any")
	if c.API.MaxMessageBytes <= 0 {
		k.fault("api.max_message_bytes", "it must be more than 0B")
	}
	if c.API.MaxInFlight < c.API.MaxMessageBytes {
		k.fault("api.max_in_flight_bytes", "it must hold at least one message of api.max_message_bytes (%s)", c.API.MaxMessageBytes)
	}
	if len(c.API.Socket) > 107 {
		k.fault("api.socket", "the path is longer than the 107 bytes that the system takes for a socket")
	}
}

func (k *check) mesh(c *Config) {
	m := c.Mesh
	if m.Registry != "" {
		var names []string
		for _, c := range c.Components {
			if c.Capability == registryCapability {
				names = append(names, c.Name)
			}
		}
		if !slices.Contains(names, m.Registry) {
			k.fault("mesh.registry", "unknown registry component %q%s", clip(m.Registry), suggest(m.Registry, names))
		}
	}
	if host, _, err := net.SplitHostPort(m.Inbound.Advertise); m.Inbound.Advertise != "" {
		if err != nil {
			host = m.Inbound.Advertise
		}
		if host == "" || strings.ContainsAny(host, " /@") {
			k.fault("mesh.inbound.advertise", "%q is not HOST or HOST:PORT", clip(m.Inbound.Advertise))
		}
	}
	k.oneOf("mesh.inbound.tls", m.Inbound.TLS, "", "off")
	k.atLeast("mesh.inbound.concurrency", m.Inbound.Concurrency, 1)
	k.atLeast("mesh.max_hops", m.MaxHops, 1)
}

func (k *check) telemetry(c *Config) {
	t := c.Telemetry
	k.oneOf("telemetry.log.level", t.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("telemetry.log.format", t.Log.Format, "text", "json")
	if !(t.Tracing.Ratio >= 0 && t.Tracing.Ratio <= 1) { // which NaN fails too
		k.fault("telemetry.tracing.ratio", "%v is not a share from 0 to 1", t.Tracing.Ratio)
	}
	if e := t.Tracing.Endpoint; e != "" {
		if host, port, err := net.SplitHostPort(e); err != nil || host == "" || port == "" {
			k.fault("telemetry.tracing.endpoint", "%q is not an address: write HOST:PORT", clip(e))
		}
	}
}

func (k *check) times(c *Config) {
	for _, d := range []struct {
		path string
		is   time.Duration
	}{{"mesh.outbound.timeout", c.Mesh.Outbound.Timeout}, {"drain.propagation", c.Drain.Propagation}, {"drain.max", c.Drain.Max}, {"reload.timeout", c.Reload.Timeout}} {
		if d.is < 0 {
			k.fault(d.path, "duration %s is negative", d.is)
		}
	}
	if c.Drain.Max >= 0 && c.Drain.Propagation > c.Drain.Max {
		k.fault("drain.propagation", "%s is longer than drain.max, the whole of draining (%s)", c.Drain.Propagation, c.Drain.Max)
	}
}

func (k *check) port(path string, port int) {
	if port < 0 || port > 65535 {
		k.fault(path, "%d is not a port: it is a number from 1 to 65535, or 0", port)
	}
}

func (k *check) atLeast(path string, n, least int) {
	if n < least {
		k.fault(path, "%d is less than %d", n, least)
	}
}

func (k *check) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.fault(path, "unknown value %q%s", clip(value), suggest(value, allowed))
	}
}

// redact takes out of a message what the setting has from a reference.
func (k *check) redact(n *yaml.Node, message string) string {
	if ref := k.tree.places[n.Line].ref; ref != nil {
		for _, value := range append(ref.values(nil), ref.render(nil)) {
			message = hide(message, value, clip(ref.raw))
		}
	}
	return message
}
