// Package zookeeper is a registry in ZooKeeper, for all sidecars that reach it. Each sidecar's records are ephemeral nodes of its session.
//
// A service is the container node PREFIX/NAMESPACE,GROUP,NAME, a record a node ADDRESS,HOLDER,NUMBER in it, each part escaped as in a URL, the
// holder being an instance of the driver: JSON, see entry. A node never changes: another one takes its place.
package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

func init() {
	components.Register(registry.Drivers, "zookeeper", Options{Addresses: []string{"127.0.0.1:2181"}, Prefix: "/outrigger/registry",
		Session: 10 * time.Second, Timeout: 5 * time.Second}, Open)
}

// Options of the driver.
type Options struct {
	Addresses []string          `yaml:"addresses" doc:"HOST:PORT of the servers; one of them is used, and another when that is away"`
	User      string            `yaml:"user" doc:"of the scheme digest, who alone may read and change what is written; empty: none, and anybody may"`
	Password  components.Secret `yaml:"password" doc:"of the user"`
	TLS       backend.TLS       `yaml:"tls" doc:"encryption"`
	Prefix    string            `yaml:"prefix" doc:"path of the node that all others are below"`
	Session   time.Duration     `yaml:"session" doc:"how long the records of a sidecar stay that has gone or cannot reach ZooKeeper, which may raise or lower it; from 1s to 10m"`
	Timeout   time.Duration     `yaml:"timeout" doc:"how long a call may take whose caller gives it more time; from 1s to 1m"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{backend.CheckAddresses("addresses", o.Addresses), o.TLS.Validate()}
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault((o.User == "") != (o.Password == ""), "user, password: one needs the other")
	fault(strings.Contains(o.User, ":"), "user: it has a colon")
	fault(!isPath(o.Prefix), "prefix: %q is no path of a node, such as /outrigger", o.Prefix)
	fault(o.Session < time.Second || o.Session > 10*time.Minute, "session: %s is not from 1s to 10m", o.Session)
	fault(o.Timeout < time.Second || o.Timeout > time.Minute, "timeout: %s is not from 1s to 1m", o.Timeout)
	return errors.Join(faults...)
}

func isPath(path string) bool {
	parts := strings.Split(path, "/")
	if len(parts) < 2 || parts[0] != "" {
		return false
	}
	for _, p := range parts[1:] {
		if p == "" || p == "." || p == ".." || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return false
		}
	}
	return true
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- A record is seen by the other sidecars soon, and gone from their lists as soon when it is taken back.
- The records of a sidecar that was killed, is stopped (SIGSTOP) or cannot reach ZooKeeper go when its session is over, which ZooKeeper
  decides; they come back, in a new session, when it is reached again.
- Records outlive the loss of servers, and a restart of all of ZooKeeper that is shorter than the session.
- A record that somebody else removes is written anew within ` + "`session`" + `, with the nodes above it, also when ZooKeeper has lost all its data.
- Of several sidecars that have registered the same address the last one's record counts, until it is taken back: then that of the
  one before.
- A watch begins with what was acknowledged before, through whichever server, and reads the list again after each reconnection.
- What others write, in the forms of Spring Cloud, Dubbo and SOFARPC, is told as it becomes, also when a node is changed or replaced.
- ZooKeeper tells nobody that a password is wrong: it is a node that was written with another one that is refused.`
}

// Open begins a session. It must be closed.
func Open(ctx context.Context, env components.Env, o Options) (registry.Driver, error) {
	d, err := connect(env, o)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if err = d.begin(limited); err == nil {
		err = d.Check(limited)
	}
	if err != nil {
		_ = d.Close(ctx)
		return nil, err
	}
	d.loop.Go(d.run)
	return d, nil
}

// Check implements components.Checker.
func (d *driver) Check(ctx context.Context) error {
	return d.do(ctx, func(conn *zk.Conn) error {
		_, _, err := conn.Children(d.options.Prefix)
		return err
	})
}
