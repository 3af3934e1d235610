// Package redisconn is how drivers reach a Redis: one server, a primary that sentinels name, or a cluster. Commands of many callers
// go together in pipelines over a few connections. Instances with the same options share one client.
package redisconn

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// Mode is what stands at the addresses.
type Mode string

// The modes that there are.
const (
	Single   Mode = "single"
	Sentinel Mode = "sentinel"
	Cluster  Mode = "cluster"
)

// Options say where Redis is, and who asks.
type Options struct {
	Mode             Mode              `yaml:"mode" doc:"what is at the addresses: single, sentinel or cluster"`
	Addresses        []string          `yaml:"addresses" doc:"HOST:PORT of the server, of the sentinels, or of some nodes of the cluster"`
	Master           string            `yaml:"master" doc:"name by which the sentinels know the primary"`
	User             string            `yaml:"user" doc:"empty: the default user"`
	Password         components.Secret `yaml:"password" doc:"of the user"`
	SentinelUser     string            `yaml:"sentinel_user" doc:"user at the sentinels"`
	SentinelPassword components.Secret `yaml:"sentinel_password" doc:"of the user at the sentinels"`
	DB               int               `yaml:"db" doc:"number of the database; a cluster has only 0"`
	Prefix           string            `yaml:"prefix" doc:"what all keys begin with, before a slash; in a cluster one with {braces} keeps all of them on one server"`
	TLS              backend.TLS       `yaml:"tls" doc:"encryption"`
	Timeout          time.Duration     `yaml:"timeout" doc:"how long a server may take to answer before its connection is given up"`
}

// Defaults is a Redis of the machine's own.
func Defaults() Options {
	return Options{Mode: Single, Addresses: []string{"127.0.0.1:6379"}, Prefix: "outrigger", Timeout: 3 * time.Second}
}

// Validate refuses what cannot work together.
func (o Options) Validate() error {
	faults := []error{backend.CheckAddresses("addresses", o.Addresses), o.TLS.Validate()}
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(o.Mode != Single && o.Mode != Sentinel && o.Mode != Cluster, "mode: %q is none of single, sentinel, cluster", o.Mode)
	fault(o.Mode == Single && len(o.Addresses) > 1, "addresses: a single server has one address, not %d", len(o.Addresses))
	fault((o.Master == "") == (o.Mode == Sentinel), "master: the sentinels' name of the primary belongs to mode sentinel, which needs it")
	fault(o.Mode != Sentinel && (o.SentinelUser != "" || o.SentinelPassword != ""), "sentinel_user, sentinel_password: only in mode sentinel")
	fault(o.User != "" && o.Password == "", "password: missing for user %q", o.User)
	fault(o.SentinelUser != "" && o.SentinelPassword == "", "sentinel_password: missing for user %q", o.SentinelUser)
	fault(o.DB < 0 || o.Mode == Cluster && o.DB != 0, "db: there is no database %d", o.DB)
	fault(o.Prefix == "" || strings.ContainsAny(o.Prefix, "\x00/ "), "prefix: %q is empty, or has a slash or a space", o.Prefix)
	fault(o.Timeout < 10*time.Millisecond || o.Timeout > time.Minute, "timeout: %s is not from 10ms to 1m", o.Timeout)
	return errors.Join(faults...)
}

// Keys is what the keys of a component begin with: PREFIX/CAPABILITY/COMPONENT/.
func (o Options) Keys(capability, component string) string {
	return o.Prefix + "/" + capability + "/" + component + "/"
}
