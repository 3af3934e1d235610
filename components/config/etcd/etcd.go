// Package etcd keeps configuration in etcd, where all sidecars that reach it share it.
//
// # Records
//
// Under PREFIX NAMESPACE/KEY, the value as it is: what an operator puts there with etcdctl is a value, and is served without a content
// type. A value that has a content type or metadata begins with a line of its own, see header.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn"
)

func init() {
	components.Register(config.Drivers, "etcd", Options{Etcd: etcdconn.Defaults(), Prefix: "outrigger/config/"}, Open)
}

// Options of the driver.
type Options struct {
	Etcd   etcdconn.Options `yaml:"etcd"`
	Prefix string           `yaml:"prefix" doc:"what all keys begin with in etcd; NAMESPACE/KEY follows"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	return errors.Join(o.Etcd.Validate(), etcdconn.CheckPrefix(o.Prefix))
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- An acknowledged write is on the disks of most members, and survives the loss of the others, and of the leader. A write whose answer is lost
  is repeated if it was not done, and fails with ` + "`BACKEND_OUTCOME_UNKNOWN`" + ` if that cannot be told; it never undoes what was written since.
- Reads see every write that was acknowledged before they began, through whichever member. A write with a version happens only at that
  version, in one step.
- A version is the revision of the whole etcd: it never comes back, unless etcd is restored from a snapshot without ` + "`--bump-revision`" + `.
- A watch goes on where it was when its member is lost, and misses nothing; when etcd has compacted what happened meanwhile, or was
  restored, all that is there is told again.
- A value is as large as etcd takes, 1.5 MiB unless its ` + "`--max-request-bytes`" + ` says otherwise; a larger one is refused with ` + "`RESOURCE_EXHAUSTED`" + `.`
}

// driver asks etcd.
type driver struct {
	conn    *etcdconn.Conn
	release func()
	prefix  string
	ended   context.Context
	end     context.CancelFunc
}

var (
	_ config.Setter      = (*driver)(nil)
	_ config.Deleter     = (*driver)(nil)
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)

	errClosed = fmt.Errorf("%w: the component is closed", components.ErrUnavailable)
)

// Open connects to etcd. It must be closed.
func Open(ctx context.Context, env components.Env, o Options) (config.Driver, error) {
	conn, release, err := etcdconn.Open(ctx, env, o.Etcd)
	if err != nil {
		return nil, err
	}
	d := &driver{conn: conn, release: release, prefix: o.Prefix}
	if err := d.Check(ctx); err != nil {
		release()
		return nil, err
	}
	d.ended, d.end = context.WithCancel(context.Background())
	return d, nil
}

// Close ends the watches.
func (d *driver) Close(context.Context) error {
	d.end()
	d.release()
	return nil
}

// Check implements components.Checker.
func (d *driver) Check(ctx context.Context) error { return d.conn.Check(ctx, d.prefix) }

func (d *driver) Get(ctx context.Context, key string) (item config.Item, err error) {
	err = d.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
		got, err := client.Get(ctx, d.prefix+key)
		switch {
		case err != nil:
			return err
		case len(got.Kvs) == 0:
			return components.ErrNotFound
		}
		item, err = d.item(got.Kvs[0])
		return err
	})
	return item, err
}

func (d *driver) item(kv *mvccpb.KeyValue) (config.Item, error) {
	item := config.Item{Key: string(kv.Key[len(d.prefix):]), Version: version(kv.ModRevision)}
	if err := unpack(kv.Value, &item); err != nil {
		return config.Item{}, fmt.Errorf("%w: configuration %q in %s: %w", components.ErrDamaged, item.Key, d.conn.Where(), err)
	}
	return item, nil
}

func version(revision int64) string { return strconv.FormatInt(revision, 10) }

func (d *driver) List(ctx context.Context, prefix, after string, limit int) ([]config.Item, error) {
	var items []config.Item
	from := d.prefix + prefix
	if after != "" {
		from = max(from, d.prefix+after+"\x00")
	}
	err := d.scan(ctx, from, d.prefix+prefix, 0, func(kv *mvccpb.KeyValue, bytes int) (more bool, err error) {
		item, err := d.item(kv)
		items = append(items, item)
		return len(items) < limit && bytes < config.PageBytes, err
	})
	return items, err
}

// errUnheard is that the key has changed since, be it by a try whose answer was lost.
var errUnheard = errors.New("the key has changed meanwhile")

// asItIs is the version of who takes any.
const asItIs = -1

func (d *driver) Set(ctx context.Context, item config.Item, ifVersion string) (string, error) {
	key, value, at := d.prefix+item.Key, pack(item), int64(asItIs)
	if ifVersion != "" {
		var err error
		if at, err = strconv.ParseInt(ifVersion, 10, 64); err != nil || at < 1 {
			at = 1 // which is before the first write of all
		}
	}
	revision, err := d.change(ctx, key, at, clientv3.OpPut(key, value), func(there []*mvccpb.KeyValue) bool {
		return len(there) > 0 && string(there[0].Value) == value
	})
	return version(revision), err
}

func (d *driver) Delete(ctx context.Context, key string) error {
	key = d.prefix + key
	_, err := d.change(ctx, key, asItIs, clientv3.OpDelete(key), func(there []*mvccpb.KeyValue) bool { return len(there) == 0 })
	return err
}

// change does something with a key if it is in a version, and answers the revision. Each try holds for one version alone: a member that
// was frozen does what it was asked for when it goes on, and must not undo what was done since. Done tells whether it looks as if a
// try whose answer was lost had been done.
func (d *driver) change(ctx context.Context, key string, at int64, op clientv3.Op, done func([]*mvccpb.KeyValue) bool) (revision int64, err error) {
	guard, unheard := at, false // unheard: there is a try without an answer
	err = d.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
		if guard == asItIs {
			got, err := client.Get(ctx, key, clientv3.WithKeysOnly())
			if err != nil {
				return err
			}
			guard = revisionOf(got.Kvs)
		}
		for {
			before := unheard
			unheard = true
			got, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", guard)).Then(op).Else(clientv3.OpGet(key)).Commit()
			if err != nil {
				return err
			}
			if unheard = before; got.Succeeded {
				revision = got.Header.Revision
				return nil
			}
			there := got.Responses[0].GetResponseRange().Kvs
			switch {
			case unheard && at == asItIs && done(there):
				revision = revisionOf(there)
				return nil
			case unheard:
				return errUnheard
			case at != asItIs && len(there) > 0:
				return fmt.Errorf("%w: the key is there in version %s", components.ErrConflict, version(there[0].ModRevision))
			case at != asItIs:
				return fmt.Errorf("%w: the key is absent", components.ErrConflict)
			}
			guard = revisionOf(there) // somebody else was faster
		}
	})
	if unheard && (errors.Is(err, errUnheard) || etcdconn.Away(err)) {
		err = backend.Unknown(ctx, d.conn.Where(), err)
	}
	return revision, err
}

// revisionOf is that in which a key was written last, 0 if it is absent.
func revisionOf(kvs []*mvccpb.KeyValue) int64 {
	if len(kvs) == 0 {
		return 0
	}
	return kvs[0].ModRevision
}
