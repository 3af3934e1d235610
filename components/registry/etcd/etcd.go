// Package etcd is a registry in etcd, for all sidecars that reach it. Each sidecar's records hang on a lease that it keeps.
//
// A record is under PREFIX NAMESPACE/GROUP/NAME/ADDRESS/HOLDER, each part escaped as in a URL, the holder being an instance of the driver:
// JSON, see entry.
package etcd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

func init() {
	components.Register(registry.Drivers, "etcd", Options{Etcd: etcdconn.Defaults(), Prefix: "outrigger/registry/", TTL: 10 * time.Second}, Open)
}

// Options of the driver.
type Options struct {
	Etcd   etcdconn.Options `yaml:"etcd"`
	Prefix string           `yaml:"prefix" doc:"what all keys begin with in etcd"`
	TTL    time.Duration    `yaml:"ttl" doc:"how long the records of a sidecar stay that has gone or cannot reach etcd, in whole seconds from 2s to 10m"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{o.Etcd.Validate(), etcdconn.CheckPrefix(o.Prefix)}
	if o.TTL < 2*time.Second || o.TTL > 10*time.Minute || o.TTL%time.Second != 0 {
		faults = append(faults, fmt.Errorf("ttl: %s is not in whole seconds from 2s to 10m", o.TTL))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- A record is seen by the other sidecars at once, and gone from their lists at once when it is taken back.
- The records of a sidecar that was killed, is stopped (SIGSTOP) or cannot reach etcd go after ` + "`ttl`" + `, and up to as long again when etcd elects a
  leader meanwhile. They come back when it reaches etcd again.
- Records outlive the loss of members, of the leader, and a restart of all of etcd that is shorter than ` + "`ttl`" + `.
- A record that somebody else removes or changes is written anew within ` + "`ttl`" + `.
- Of several sidecars that have registered the same address the last one's record counts, until it is taken back: then that of the
  one before.
- A watch goes on where it was when its member is lost; when etcd has compacted what happened meanwhile it is told the list anew.`
}

// entry is the value of a record.
type entry struct {
	Weight   int               `json:"weight"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Since    int64             `json:"since,omitempty"` // revision in which it was written first, if that was before this one
}

// owned is a record of this instance, and the revision in which it was written last.
type owned struct {
	entry
	revision int64
}

// driver keeps records on one lease.
type driver struct {
	conn    *etcdconn.Conn
	release func()
	log     *slog.Logger
	prefix  string
	holder  string // is never used again
	kept    *etcdconn.Kept

	busy chan struct{}    // holds one while what is own changes
	own  map[string]owned // by key

	ended   context.Context
	end     context.CancelFunc
	loop    sync.WaitGroup
	closing sync.Once
	err     error // of closing
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)

	errClosed = fmt.Errorf("%w: the component is closed", components.ErrUnavailable)
)

// Open gets a lease. It must be closed.
func Open(ctx context.Context, env components.Env, o Options) (registry.Driver, error) {
	conn, release, err := etcdconn.Open(ctx, env, o.Etcd)
	if err != nil {
		return nil, err
	}
	d := &driver{conn: conn, release: release, log: env.Logger, prefix: o.Prefix, holder: rand.Text(), busy: make(chan struct{}, 1), own: map[string]owned{}}
	d.ended, d.end = context.WithCancel(context.Background())
	if err = conn.CheckWritable(ctx, o.Prefix); err == nil {
		d.kept, err = conn.Keep(ctx, env.Logger, o.TTL, d.writeAll)
	}
	if err != nil {
		d.end()
		release()
		return nil, err
	}
	d.loop.Go(func() { d.look(o.TTL) })
	return d, nil
}

// Close takes back the records, and ends the watches.
func (d *driver) Close(ctx context.Context) error {
	d.closing.Do(func() {
		d.end()
		d.loop.Wait()
		d.err = d.kept.Close(ctx)
		d.release()
	})
	return d.err
}

// Check implements components.Checker.
func (d *driver) Check(ctx context.Context) error { return d.conn.Check(ctx, d.prefix) }

// enter waits for the turn to change what is own.
func (d *driver) enter(ctx context.Context) error {
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.ended.Err() != nil {
		<-d.busy
		return errClosed
	}
	return nil
}

func (d *driver) Register(ctx context.Context, r registry.Record) error {
	wait := backend.Backoff{First: 20 * time.Millisecond}
	for {
		err := d.register(ctx, d.key(r.Service, r.Address), entry{Weight: r.Weight, Metadata: maps.Clone(r.Metadata)})
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
		d.kept.Lost() // there is another one soon
		if wait.Wait(ctx) != nil {
			return ctx.Err()
		}
	}
}

func (d *driver) register(ctx context.Context, key string, e entry) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer func() { <-d.busy }()
	before := d.own[key]
	if before.Weight == e.Weight && maps.Equal(before.Metadata, e.Metadata) {
		e.Since = before.Since
	}
	revision, err := d.write(ctx, key, e, before.revision, d.kept.ID())
	if err != nil {
		return err
	}
	if e.Since == 0 {
		e.Since = revision
	}
	d.own[key] = owned{e, revision}
	return nil
}

// write writes a record in place of the one of a revision (0: none), or whatever else this instance has written, and answers the new
// revision.
func (d *driver) write(ctx context.Context, key string, e entry, at int64, lease clientv3.LeaseID) (revision int64, err error) {
	value, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	return d.change(ctx, key, at, clientv3.OpPut(key, string(value), clientv3.WithLease(lease)))
}

// change does something with a key of this instance's if it is as it was in a revision, and else as it is. Was that done twice, or is it
// not known whether it was, a try may yet be done, some time.
func (d *driver) change(ctx context.Context, key string, at int64, op clientv3.Op) (revision int64, err error) {
	tries := 0
	for {
		done := false
		err = d.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
			tries++
			got, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", at)).Then(op).Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).Commit()
			if err != nil {
				return err
			}
			if done = got.Succeeded; done {
				revision = got.Header.Revision
				return nil
			}
			at = 0
			for _, kv := range got.Responses[0].GetResponseRange().Kvs {
				at = kv.ModRevision
			}
			return nil
		})
		if err == nil && !done {
			tries--
			continue
		}
		if tries > 1 || etcdconn.Away(err) || ctx.Err() != nil {
			d.kept.Replace()
		}
		return revision, err
	}
}

// writeAll writes what is own anew, on another lease than before.
func (d *driver) writeAll(ctx context.Context, lease clientv3.LeaseID) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer func() { <-d.busy }()
	for key, o := range d.own {
		revision, err := d.write(ctx, key, o.entry, o.revision, lease)
		if err != nil {
			return err
		}
		d.own[key] = owned{o.entry, revision}
	}
	return nil
}

// look sees now and then that the records are there, until Close.
func (d *driver) look(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = d.heal(d.ended) // it is tried again, and who keeps the lease says what is wrong
		case <-d.ended.Done():
			return
		}
	}
}

// heal writes those records anew that somebody else has removed or changed.
func (d *driver) heal(ctx context.Context) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer func() { <-d.busy }()
	for keys := range slices.Chunk(slices.Collect(maps.Keys(d.own)), lookAtOnce) {
		changed, err := d.differ(ctx, keys)
		if err != nil {
			return err
		}
		for key, at := range changed {
			d.log.Warn("somebody has removed or changed a record: it is written anew", "op", "register", "record", key)
			o := d.own[key]
			revision, err := d.write(ctx, key, o.entry, at, d.kept.ID())
			if err != nil {
				return err
			}
			d.own[key] = owned{o.entry, revision}
		}
	}
	return nil
}

// lookAtOnce is how many records are asked for with one question. Unless it was told otherwise etcd takes 128.
const lookAtOnce = 100

// differ answers which of its records are not as this instance has written them, and in what revision they are; 0: they are gone.
func (d *driver) differ(ctx context.Context, keys []string) (changed map[string]int64, err error) {
	same, all := make([]clientv3.Cmp, len(keys)), make([]clientv3.Op, len(keys))
	for i, key := range keys {
		same[i] = clientv3.Compare(clientv3.ModRevision(key), "=", d.own[key].revision)
		all[i] = clientv3.OpGet(key, clientv3.WithKeysOnly())
	}
	err = d.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
		got, err := client.Txn(ctx).If(same...).Else(all...).Commit()
		if err != nil {
			return err
		}
		changed = map[string]int64{}
		for i, one := range got.Responses { // none if all are the same
			at := int64(0)
			for _, kv := range one.GetResponseRange().Kvs {
				at = kv.ModRevision
			}
			if at != d.own[keys[i]].revision {
				changed[keys[i]] = at
			}
		}
		return nil
	})
	if errors.Is(err, rpctypes.ErrTooManyOps) && len(keys) > 1 { // it was told otherwise
		changed, err = d.differ(ctx, keys[:len(keys)/2])
		if err == nil {
			var more map[string]int64
			more, err = d.differ(ctx, keys[len(keys)/2:])
			maps.Copy(changed, more)
		}
	}
	return changed, err
}

func (d *driver) Deregister(ctx context.Context, s registry.Service, address string) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer func() { <-d.busy }()
	key := d.key(s, address)
	at := d.own[key].revision
	delete(d.own, key) // first: it must not be put back
	_, err := d.change(ctx, key, at, clientv3.OpDelete(key))
	return err
}

// list is what the keys of a service's records begin with.
func (d *driver) list(s registry.Service) string {
	return d.prefix + url.PathEscape(s.Namespace) + "/" + url.PathEscape(s.Group) + "/" + url.PathEscape(s.Name) + "/"
}

func (d *driver) key(s registry.Service, address string) string {
	return d.list(s) + url.PathEscape(address) + "/" + d.holder
}

// addressOf reads the address in the rest of a key, behind list.
func addressOf(rest string) (string, error) {
	address, _, ok := strings.Cut(rest, "/")
	if !ok {
		return "", errors.New("it has no holder")
	}
	return url.PathUnescape(address)
}
