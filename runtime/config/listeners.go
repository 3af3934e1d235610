package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// listener is an address that the sidecar binds.
type listener struct {
	path, host string
	port       int
}

// listeners checks the addresses that are bound, and that no two want one port.
func (k *check) listeners(c *Config) {
	var all []listener
	type bound struct {
		path, address string
		anywhere      bool // may be bound to another address than loopback
	}
	wanted := []bound{
		{"api.grpc", c.API.GRPC, false},
		{"api.http", c.API.HTTP, false},
		{"admin.address", c.Admin.Address, false},
		{"admin.probes", c.Admin.Probes, true},
		{"mesh.inbound.address", c.Mesh.Inbound.Address, true},
		{"mesh.outbound.address", c.Mesh.Outbound.Address, false},
		{"mesh.sofarpc.control", c.Mesh.SOFARPC.Control, false},
		{"mesh.sofarpc.outbound", c.Mesh.SOFARPC.Outbound, false},
	}
	for i, t := range c.Mesh.Outbound.TCP {
		wanted = append(wanted, bound{fmt.Sprintf("mesh.outbound.tcp.%d.address", i), t.Address, false})
	}
	for _, a := range wanted {
		if a.address == "" && (a.path == "admin.probes" || strings.HasPrefix(a.path, "mesh.sofarpc.")) {
			continue
		}
		l, err := parseListener(a.path, a.address)
		switch {
		case err != nil:
			k.bad(a.path, a.address, "%v", err)
			continue
		case !a.anywhere && !isLoopback(l.host):
			k.bad(a.path, a.address, "is not a loopback address: only admin.probes and mesh.inbound.address can be bound elsewhere")
		}
		all = append(all, l)
	}
	k.sofarpc(c.Mesh.SOFARPC)
	if c.Mesh.TLS.Mode == "" {
		for _, l := range all {
			if l.path == "mesh.inbound.address" && !isLoopback(l.host) {
				k.bad(l.path, c.Mesh.Inbound.Address,
					"is not a loopback address, and there is no identity to ask callers for: write mesh.tls with mode: strict and certificates, or with mode: off to let anyone in")
			}
		}
	}
	for i, l := range all {
		for _, earlier := range all[:i] {
			if l.port != 0 && l.port == earlier.port && overlap(l.host, earlier.host) {
				k.taken(l.path, earlier.path)
			}
		}
		if l.port == 0 || !overlap(l.host, "127.0.0.1") {
			continue
		}
		if c.App.Port == l.port {
			k.taken("app.port", l.path)
		}
		for i, s := range c.App.Services {
			if s.Port == l.port && s.Port != c.App.Port { // else it is told already
				k.taken(fmt.Sprintf("app.services.%d.port", i), l.path)
			}
		}
	}
}

// sofarpc holds its two addresses against each other: one follows from the other there.
func (k *check) sofarpc(s SOFARPC) {
	control, _, _ := net.SplitHostPort(s.Control)
	outbound, _, _ := net.SplitHostPort(s.Outbound)
	switch {
	case (s.Control == "") != (s.Outbound == ""):
		k.fault("mesh.sofarpc", "control and outbound need each other: SOFARPC publishes at one and calls through the other")
	case control != outbound:
		k.bad("mesh.sofarpc.outbound", s.Outbound, "is on another host than control: SOFARPC calls port 12220 of the host that it publishes at")
	}
}

// taken blames the one of two that the user wrote.
func (k *check) taken(path, other string) {
	if !k.written(path) && k.written(other) {
		path, other = other, path
	}
	k.fault(path, "it has the port of %s", other)
}

func parseListener(path, address string) (listener, error) {
	host, digits, err := net.SplitHostPort(address)
	if err != nil {
		return listener{}, errors.New("is not an address: write HOST:PORT")
	}
	port, err := strconv.Atoi(digits)
	if err != nil || port < 0 || port > 65535 {
		return listener{}, errors.New("is not an address: the port is a number from 0 to 65535")
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return listener{}, errors.New("is not an address to listen on: the host is an IP address, localhost, or empty for all")
	}
	return listener{path: path, host: host, port: port}, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// overlap tells whether two hosts cannot be bound on one port: they are the same, or one stands for all.
func overlap(a, b string) bool {
	x, y := hostAddress(a), hostAddress(b)
	return x == y || x.IsUnspecified() || y.IsUnspecified()
}

func hostAddress(host string) netip.Addr {
	switch host {
	case "":
		return netip.IPv6Unspecified()
	case "localhost":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	ip, _ := netip.ParseAddr(host)
	return ip.Unmap().WithZone("")
}
