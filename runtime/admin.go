package runtime

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/host"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"
)

// newAdmin is the operators' door; startAdmin opens it.
func (s *sidecar) newAdmin() *admin.Server {
	door := &access.Policy{Mode: access.SameUser}
	return admin.New(admin.Options{
		Ready: s.ready, ReadyOutbound: s.readyOutbound, Info: s.info, Explain: s.explain,
		Metrics: s.telemetry.Metrics.Handler(), Pprof: s.config().Admin.Pprof,
		Level: s.telemetry.Level, SetLevel: s.telemetry.SetLevel,
		Reload: s.reloads.apply,
		Drain:  func() { s.end() },
		Bundle: s.bundle,
		Admit: func(nc net.Conn) error {
			return door.Admit(door.Identify(nc), func(string) string { return "" })
		},
		Logger: s.log,
	})
}

func (s *sidecar) startAdmin(context.Context) error {
	s.admin.ServeTCP(s.sockets.admin)
	if s.sockets.probes != nil {
		s.admin.ServeProbes(s.sockets.probes)
	}
	if s.sockets.adminUnix != nil {
		s.admin.ServeUnix(s.sockets.adminUnix)
	}
	return nil
}

// stopAdmin is the last to end, so that it can be seen how the sidecar ends.
func (s *sidecar) stopAdmin(ctx context.Context) error {
	s.endBG()
	if s.sockets.handover != nil {
		s.sockets.handover.Close()
	}
	err := s.admin.Close(ctx)
	s.tasks.Wait()
	return err
}

// ready speaks of calls that come in: there is an application that can take them.
func (s *sidecar) ready() (ok bool, why string) {
	switch {
	case !s.wasReady.Load():
		return false, "starting"
	case s.ending.Load():
		return false, "draining"
	}
	if s.config().App.Port != 0 && !s.publisher.Answers(s.app.App) {
		return false, fmt.Sprintf("the application does not answer on port %d", s.config().App.Port)
	}
	return true, ""
}

// readyOutbound speaks of what the application may use, which is there for it also while it drains.
func (s *sidecar) readyOutbound() (ok bool, why string) {
	switch {
	case !s.wasReady.Load():
		return false, "starting"
	case s.closing.Load():
		return false, "draining"
	}
	return usable(s.host.States())
}

// usable tells whether all components serve that the application cannot do without, and names each that does not serve. Why it does not is
// not for everybody who may ask.
func usable(states []host.State) (ok bool, why string) {
	ok, said := true, []string{}
	for _, c := range states {
		switch text := fmt.Sprintf("%s %q is %s", c.Capability, c.Name, c.State); {
		case c.State == host.Ready:
		case c.Required:
			ok, said = false, append(said, "required "+text)
		default:
			said = append(said, text)
		}
	}
	return ok, strings.Join(said, "; ")
}

func (s *sidecar) info() admin.Info {
	generation, lastError := s.reloads.state()
	i := admin.Info{Version: s.opts.Version, App: s.app.App, Advertise: s.announce(), TLS: s.config().Mesh.TLS.Mode, Identity: s.spiffe(), TLSError: s.tlsTrouble(),
		Config: admin.Config{Generation: generation, LastError: lastError},
		Ports: map[string]int{"grpc": portOf(s.sockets.grpc), "http": portOf(s.sockets.http), "admin": portOf(s.sockets.admin),
			"inbound": portOf(s.sockets.inbound), "outbound": portOf(s.sockets.outbound)}}
	if s.wasReady.Load() {
		i.Policies = s.shownPolicies()
	}
	for _, c := range s.host.States() {
		i.Components = append(i.Components, admin.Component{Name: c.Name, Capability: c.Capability, Driver: c.Driver, State: c.State, Error: c.Error})
	}
	if s.wasReady.Load() {
		for _, o := range s.publisher.Offers() {
			i.Offers = append(i.Offers, admin.Offer{Name: fullName(o.Service), Port: o.Port, Announced: o.Why == "", Error: o.Why})
		}
		for _, e := range s.directory.Services() {
			i.Services = append(i.Services, admin.Service{Name: fullName(e.Service), Instances: e.Instances, Held: e.Held, Stale: e.Stale})
		}
	}
	return i
}

// fullName is a service's with all that it is asked for by.
func fullName(s mesh.Service) string {
	name := s.String()
	for _, more := range [...]string{s.Group, s.Version, s.Protocol} {
		if more != "" {
			name += " " + more
		}
	}
	return name
}
