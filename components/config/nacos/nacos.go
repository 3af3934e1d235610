// Package nacos keeps configuration in Nacos, of version 2 and later. Changes come by its push.
//
// # Keys and values
//
// A key is a data id of the group that is set, in a Nacos namespace named as the application's, or as `namespaces` says: what other
// clients of Nacos, and its console, write there is read by its data id. A slash is a colon in the data id; letters, digits and `. - _` are
// themselves, and any other byte is `::` and its two hexadecimal digits. A key may not begin with `cipher-`.
//
// A value is the content as it is. What Nacos does not take, such as binary or blank values, is `outrigger-base64:` and its base64. Nacos has names of
// its own for content types (text, json, xml, yaml, html, properties, toml); metadata is refused.
package nacos

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

func init() {
	components.Register(config.Drivers, "nacos", Options{Nacos: nacosconn.Defaults(), Group: "DEFAULT_GROUP", ListInterval: 5 * time.Second, Snapshot: true}, Open)
}

// Options of the driver.
type Options struct {
	Nacos        nacosconn.Options `yaml:"nacos"`
	Group        string            `yaml:"group" doc:"the group of all data ids"`
	Namespaces   map[string]string `yaml:"namespaces" doc:"ids of the Nacos namespaces that the applications' namespaces are kept in, where they are not the same; the public one is public"`
	ListInterval time.Duration     `yaml:"list_interval" doc:"how often those who watch a prefix look for new keys: Nacos pushes only what is known by name"`
	Snapshot     bool              `yaml:"snapshot" doc:"keep what was read in the data folder, and serve it, marked as stale, while no server is there"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{o.Nacos.Validate(), nacosconn.CheckNamespaces(o.Namespaces)}
	if o.Group == "" || len(o.Group) > 128 || nacosconn.Escape(o.Group, " ", func(c byte) bool { return isPlain(c) || c == ':' }) != o.Group {
		faults = append(faults, fmt.Errorf("group: %q is no name of a group", o.Group))
	}
	if o.ListInterval < 100*time.Millisecond {
		faults = append(faults, errors.New("list_interval: must be 100ms at least"))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- A value that was set is as durable as the database of the servers: one that is their own and embedded loses with one server of one, or a majority, what MySQL keeps.
- Set and Delete return when the server that the sidecar is connected to serves the new state, about 100 ms later, or seconds for values of some MiB in an embedded database, for which nacos.timeout must be longer; another server of the cluster may serve the old one for that long.
- A version is the content's MD5 and the time of its change by the database's clock, which MySQL keeps to the second or the millisecond as its schema says: versions go back if it does. A watch tells of what is older than what it told before when it has been so for 30 s: the server may lag behind.
- Set with a version is atomic against all others by the content's MD5: a value that was changed and changed back between the question and the write is written over, and one that is deleted just then is made again. An embedded database does not say that such a write has not been done: it is found out by a note that is written beside the value, in the field of the encryption plugin, and where another client has written at the same moment the answer is that the outcome is not known (BACKEND_OUTCOME_UNKNOWN).
- Changes of keys, and of those that a watch of a prefix has found, are pushed, the last one always; values in between may be skipped. New keys of a prefix are found by asking, every list_interval, over HTTP; so are those of List, which asks for each value by itself and is no snapshot of one moment.
- After a restart of a server, watches go on by themselves within 5 s. While none is there, Get and Watch serve what was read before, marked as stale, even after a restart of the sidecar, from files below DATA_DIR/nacos that each sidecar has for itself; what is denied is an error and never served from there.
- Passwords and tokens go over HTTPS with tls.enabled, which verifies the server always: without tls.ca by the system's authorities.
- None of the Go SDK's clients is used: no UDP port is open, and nothing is written outside the data folder.`
}

// driver is one component. Safe for concurrent use.
type driver struct {
	options  Options
	hub      *hub
	release  func()
	snapshot *snapshot // nil: there is none

	closed context.Context
	close  context.CancelFunc
}

var (
	_ config.Setter      = (*driver)(nil)
	_ config.Deleter     = (*driver)(nil)
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
)

// Open connects. With a snapshot it succeeds, too, while no server can be reached. It must be closed.
func Open(ctx context.Context, env components.Env, o Options) (config.Driver, error) {
	d := &driver{options: o}
	d.closed, d.close = context.WithCancel(context.Background())
	if o.Snapshot {
		var err error
		if d.snapshot, err = openSnapshot(env, o); err != nil {
			return nil, err
		}
	}
	var err error
	d.hub, d.release, err = openHub(ctx, env, o, d.snapshot.any())
	if err != nil {
		d.snapshot.close()
		return nil, err
	}
	if err := d.allowed(ctx); err != nil {
		_ = d.Close(ctx) // it only waits
		return nil, err
	}
	return d, nil
}

// allowed finds out that a login is needed where there is none.
func (d *driver) allowed(ctx context.Context) error {
	if d.options.Nacos.User != "" {
		return nil
	}
	_, _, err := d.hub.fetch(ctx, nacosconn.DataID{DataID: "outrigger", Group: d.options.Group, Tenant: d.options.tenant("default")})
	if nacosconn.IsDenied(err) {
		return err
	}
	return nil
}

// Close ends watches.
func (d *driver) Close(context.Context) error {
	if d.closed.Err() == nil {
		d.close()
		d.release()
		d.snapshot.close()
	}
	return nil
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

func (d *driver) Get(ctx context.Context, key string) (config.Item, error) {
	if err := d.open(); err != nil {
		return config.Item{}, err
	}
	s, err := d.read(ctx, key)
	if err != nil {
		if item, ok := d.stale(key, err); ok {
			return item, nil
		}
		return config.Item{}, err
	}
	if !s.there {
		return config.Item{}, components.ErrNotFound
	}
	return s.item(key), nil
}

// state is what is at a key. There is a time of an absent one, too, if it was there.
type state struct {
	nacosconn.ConfigAnswer
	there bool
}

func (s state) version() string { return versionOf(s.MD5, s.Modified) }

func versionOf(sum string, modified int64) string {
	return sum + "-" + strconv.FormatInt(modified, 36)
}

func (s state) item(key string) config.Item {
	return config.Item{Key: key, Value: valueOf(s.Content), ContentType: contentTypeOf(s.ContentType), Version: s.version()}
}

// read asks the server, and keeps the answer for the time that it is away.
func (d *driver) read(ctx context.Context, key string) (state, error) {
	id, err := d.options.at(key)
	if err != nil {
		return state{}, err
	}
	answer, there, err := d.hub.fetch(ctx, id)
	if err != nil {
		return state{}, err
	}
	s := state{answer, there}
	d.snapshot.put(key, s)
	return s, nil
}

// stale is what was read before, if err is that the server is away.
func (d *driver) stale(key string, err error) (config.Item, bool) {
	if !isAway(err) {
		return config.Item{}, false
	}
	return d.snapshot.get(key)
}

func isAway(err error) bool {
	var detail *components.Detail
	return errors.Is(err, components.ErrUnavailable) && errors.As(err, &detail) && detail.Reason == backend.ReasonUnreachable
}
