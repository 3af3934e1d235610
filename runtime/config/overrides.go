package config

import (
	"net"
	"strconv"
)

// Overrides are the settings that come from flags. They win over the file and are checked like it.
type Overrides struct {
	AppID, AppProtocol, DataDir                                       string // empty: not given
	AppPort, GRPCPort, HTTPPort, AdminPort, InboundPort, OutboundPort *int   // nil: not given
}

// apply writes the flags over what the file said, and notes whom to blame for them.
func (o Overrides) apply(c *Config, flags map[string]string) {
	for _, s := range []struct {
		flag, path, value string
		into              *string
	}{
		{"-app-id", "app.id", o.AppID, &c.App.ID},
		{"-app-protocol", "app.protocol", o.AppProtocol, &c.App.Protocol},
		{"-data-dir", "data_dir", o.DataDir, &c.DataDir},
	} {
		if s.value != "" {
			*s.into, flags[s.path] = s.value, s.flag
		}
	}
	if o.AppPort != nil {
		c.App.Port, flags["app.port"] = *o.AppPort, "-app-port"
	}
	for _, p := range []struct {
		flag, path string
		port       *int
		address    *string
	}{
		{"-grpc-port", "api.grpc", o.GRPCPort, &c.API.GRPC},
		{"-http-port", "api.http", o.HTTPPort, &c.API.HTTP},
		{"-admin-port", "admin.address", o.AdminPort, &c.Admin.Address},
		{"-inbound-port", "mesh.inbound.address", o.InboundPort, &c.Mesh.Inbound.Address},
		{"-outbound-port", "mesh.outbound.address", o.OutboundPort, &c.Mesh.Outbound.Address},
	} {
		host, _, err := net.SplitHostPort(*p.address)
		if p.port == nil || err != nil {
			continue // what is wrong with the address is told by the check of addresses
		}
		*p.address, flags[p.path] = net.JoinHostPort(host, strconv.Itoa(*p.port)), p.flag
	}
}
