// Package nacos keeps records in Nacos, of version 2 and later, as ephemeral instances: they live as long as the sidecar's connection.
// Changes of lists come by its push.
//
// # Names
//
// A record's namespace is the Nacos namespace of that id, or the one that `namespaces` says; `public` is the public one. Without a group it is in
// DEFAULT_GROUP, which is the same as to name that. Names are as they are, but for bytes that Nacos does not take: `%` and two
// hexadecimal digits in a service's name, `::` and two in a group's, `_` and two in a namespace's. Weight and metadata are those of the instance, of which the
// server takes 1024 characters.
package nacos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

func init() {
	components.Register(registry.Drivers, "nacos", Options{Nacos: nacosconn.Defaults(), Hold: 10 * time.Second}, Open)
}

// Options of the driver.
type Options struct {
	Nacos      nacosconn.Options `yaml:"nacos"`
	Namespaces map[string]string `yaml:"namespaces" doc:"ids of the Nacos namespaces that the records' namespaces are, where they are not the same; the public one is public"`
	Hold       time.Duration     `yaml:"hold" doc:"how long after a new connection no record goes from a list: the others need time to register again"`
}

const maxHold = 5 * time.Minute

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{o.Nacos.Validate(), nacosconn.CheckNamespaces(o.Namespaces)}
	if o.Hold < 0 || o.Hold > maxHold {
		faults = append(faults, fmt.Errorf("hold: must be between 0 and %s", maxHold))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- A record is seen by the others after half a second, which is how long the server waits before it pushes; the records that one sidecar has of one service are registered as one batch.
- The records of a sidecar that is closed or killed are gone from the others' lists within a second; those of one that is frozen or cut off, after 20 to 30 s.
- Servers keep ephemeral records in memory alone. After a restart of a server, or of all, the sidecars register what they have again and watch on, within 5 s; for the time of hold no record goes from a list that has not been seen since: an empty or a short list that a server answers meanwhile is not believed. A list that it has not answered with yet, or refuses, stays as it was.
- What a list is comes over the one connection to the server that was asked for it: none of the Go SDK's clients is used, no UDP port is open that others could plant records through, and nothing is written to the disk.
- What is denied is an error, never an empty list. A record that the server does not take is INVALID_ARGUMENT, such as one with long metadata.
- A record's weight is a number without fraction: what others write is rounded, and at least 1 unless it is 0. Records that are disabled or unhealthy are left out.
- Passwords and tokens go over HTTPS with tls.enabled, which verifies the server always: without tls.ca by the system's authorities.`
}

// driver is one component. Safe for concurrent use.
type driver struct {
	options Options
	hub     *hub
	release func()

	closed context.Context
	close  context.CancelFunc
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)

	_ registry.Foreigners = (*driver)(nil)
)

// Open connects. It must be closed.
func Open(ctx context.Context, env components.Env, o Options) (registry.Driver, error) {
	h, release, err := openHub(ctx, env, o)
	if err != nil {
		return nil, err
	}
	d := &driver{options: o, hub: h, release: release}
	d.closed, d.close = context.WithCancel(context.Background())
	if err := d.allowed(ctx); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// allowed finds out that a login is needed where there is none.
func (d *driver) allowed(ctx context.Context) error {
	if d.options.Nacos.User != "" {
		return nil
	}
	s := d.options.at(registry.Service{Namespace: "default", Name: "outrigger"})
	err := d.hub.client.Read(ctx, nacosconn.Subscribe{Service: s}, nil)
	if nacosconn.IsDenied(err) {
		return err
	}
	return nil
}

// Close takes back the records, and ends watches. That no server hears of it is no error: it will miss the connection.
func (d *driver) Close(ctx context.Context) error {
	if d.closed.Err() != nil {
		return nil
	}
	d.close()
	err := d.hub.takeBack(ctx, d)
	d.release()
	if errors.Is(err, components.ErrUnavailable) {
		return nil
	}
	return err
}

// Check asks the server.
func (d *driver) Check(ctx context.Context) error {
	if err := d.open(); err != nil {
		return err
	}
	return d.hub.client.Check(ctx)
}

func (d *driver) open() error {
	if d.closed.Err() != nil {
		return nacosconn.Closed()
	}
	return nil
}

func (d *driver) Register(ctx context.Context, r registry.Record) error {
	if err := d.open(); err != nil {
		return err
	}
	in, err := instance(r)
	if err != nil {
		return err
	}
	return d.hub.register(ctx, d.options.at(r.Service), r.Address, claim{source{d, r.Foreign()}, in})
}

// CheckForeign implements registry.Foreigners.
func (d *driver) CheckForeign(s registry.Service) error {
	if s.Cluster == "" || strings.ContainsFunc(s.Cluster, func(r rune) bool { return r > 127 || !nacosconn.IsWord(byte(r)) }) {
		return fmt.Errorf("%w: %q is no cluster in Nacos", components.ErrInvalid, s.Cluster)
	}
	return nil
}

func (d *driver) Deregister(ctx context.Context, s registry.Service, address string) error {
	if err := d.open(); err != nil {
		return err
	}
	return d.hub.deregister(ctx, d.options.at(s), address, source{d, s.Foreign()})
}

func (d *driver) Watch(ctx context.Context, s registry.Service, report func([]registry.Record) error) error {
	if err := d.open(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.closed, cancel)()
	err := d.hub.watch(ctx, d.options.at(s), func(hosts []host) error { return report(records(s, hosts)) })
	if d.closed.Err() != nil {
		return nacosconn.Closed()
	}
	return err
}
