// Package etcdconn is how drivers reach an etcd: over one connection to one member, which all callers share. When that member is
// away, or has no leader, another takes its place. Instances with the same options share one of these.
package etcdconn

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// Options say where etcd is, and who asks.
type Options struct {
	Addresses []string          `yaml:"addresses" doc:"HOST:PORT of the members; one of them is used, by chance, and another when that is away"`
	User      string            `yaml:"user" doc:"empty: none, for an etcd without users"`
	Password  components.Secret `yaml:"password" doc:"of the user"`
	TLS       backend.TLS       `yaml:"tls" doc:"encryption"`
	Timeout   time.Duration     `yaml:"timeout" doc:"how long a call may take whose caller gives it more time; from 1s to 1m"`
}

// Defaults is an etcd of the machine's own.
func Defaults() Options {
	return Options{Addresses: []string{"127.0.0.1:2379"}, Timeout: 5 * time.Second}
}

// Validate refuses what cannot work together.
func (o Options) Validate() error {
	faults := []error{backend.CheckAddresses("addresses", o.Addresses), o.TLS.Validate()}
	if (o.User == "") != (o.Password == "") {
		faults = append(faults, errors.New("user, password: one needs the other"))
	}
	if o.Timeout < time.Second || o.Timeout > time.Minute {
		faults = append(faults, fmt.Errorf("timeout: %s is not from 1s to 1m", o.Timeout))
	}
	return errors.Join(faults...)
}

// key is the same for equal options only. It holds no secret that could be read.
func (o Options) key() any {
	return struct{ kind, options string }{"etcd", fmt.Sprintf("%+v %x", o, sha256.Sum256([]byte(o.Password.Reveal())))}
}

// CheckPrefix refuses what cannot be the beginning of all keys of a driver.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return errors.New("prefix: it is missing: a driver does not share all of etcd")
	}
	if err := components.CheckPrefix(prefix); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	return nil
}
