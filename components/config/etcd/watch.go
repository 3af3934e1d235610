package etcd

import (
	"context"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn"
)

// Watch follows all keys that have in common what the selected ones do, so that changes come in their order.
func (d *driver) Watch(ctx context.Context, sel config.Selection, report func([]config.Change, bool) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.ended, func() { cancel(errClosed) })()
	whole := func(ctx context.Context) (int64, error) {
		changes, revision, err := d.state(ctx, sel)
		if err == nil {
			err = report(changes, true)
		}
		return revision, err
	}
	err := d.conn.Follow(ctx, d.prefix+common(sel), whole, func(events []*clientv3.Event) error {
		changes, err := d.changes(events, sel)
		if err != nil || len(changes) == 0 {
			return err
		}
		return report(changes, false)
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// common is the beginning that all that is selected has.
func common(sel config.Selection) string {
	all := slices.Concat(sel.Keys, sel.Prefixes)
	least, most := slices.Min(all), slices.Max(all)
	n := 0
	for n < min(len(least), len(most)) && least[n] == most[n] {
		n++
	}
	return least[:n]
}

func (d *driver) changes(events []*clientv3.Event, sel config.Selection) (changes []config.Change, err error) {
	for _, e := range events {
		c := config.Change{Key: string(e.Kv.Key[len(d.prefix):]), Deleted: e.Type == mvccpb.Event_DELETE}
		if !sel.Has(c.Key) {
			continue
		}
		if !c.Deleted {
			if c.Item, err = d.item(e.Kv); err != nil {
				return nil, err
			}
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// state is all that is selected, each key once, as of one revision.
func (d *driver) state(ctx context.Context, sel config.Selection) (changes []config.Change, revision int64, err error) {
	for {
		if revision, err = d.conn.Revision(ctx, d.prefix+common(sel)); err == nil {
			changes, err = d.stateAt(ctx, sel, revision)
		}
		if !errors.Is(err, rpctypes.ErrCompacted) { // that fast it happens once at most
			return changes, revision, err
		}
	}
}

func (d *driver) stateAt(ctx context.Context, sel config.Selection, at int64) (changes []config.Change, err error) {
	told := map[string]bool{}
	add := func(kv *mvccpb.KeyValue, _ int) (bool, error) {
		item, err := d.item(kv)
		if err != nil || told[item.Key] {
			return true, err
		}
		told[item.Key] = true
		changes = append(changes, config.Change{Key: item.Key, Item: item})
		return true, nil
	}
	for keys := range slices.Chunk(sel.Keys, 2*firstChunk) {
		if err := d.getAll(ctx, keys, at, add); err != nil {
			return nil, err
		}
	}
	for _, prefix := range sel.Prefixes {
		if err := d.scan(ctx, d.prefix+prefix, d.prefix+prefix, at, add); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

// getAll gets keys, as of a revision, in one call.
func (d *driver) getAll(ctx context.Context, keys []string, at int64, take func(*mvccpb.KeyValue, int) (bool, error)) error {
	ops := []clientv3.Op{}
	for _, key := range keys {
		ops = append(ops, clientv3.OpGet(d.prefix+key, clientv3.WithRev(at)))
	}
	var got *clientv3.TxnResponse
	err := d.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) (err error) {
		got, err = client.Txn(ctx).Then(ops...).Commit()
		return err
	})
	if err != nil {
		return err
	}
	for _, one := range got.Responses {
		for _, kv := range one.GetResponseRange().Kvs {
			if _, err := take(kv, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// firstChunk is how many items are asked for before it is known how large they are. They may have 1.5 MiB each.
const firstChunk = 8

// scan takes the keys from one on that begin with prefix, in order, as of a revision (0: each as it is), until take wants no more. Take is
// told how many bytes of values there have been.
func (d *driver) scan(ctx context.Context, from, prefix string, at int64, take func(kv *mvccpb.KeyValue, bytes int) (more bool, err error)) error {
	seen, bytes, end := 0, 0, clientv3.GetPrefixRangeEnd(prefix)
	for chunk := firstChunk; from < end; chunk = min(1000, 1+config.PageBytes*seen/(bytes+1)) {
		var got *clientv3.GetResponse
		err := d.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) (err error) {
			got, err = client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(int64(chunk)), clientv3.WithRev(at))
			return err
		})
		if err != nil {
			return err
		}
		for _, kv := range got.Kvs {
			seen, bytes = seen+1, bytes+len(kv.Value)
			if more, err := take(kv, bytes); err != nil || !more {
				return err
			}
		}
		if !got.More {
			return nil
		}
		from = string(got.Kvs[len(got.Kvs)-1].Key) + "\x00"
	}
	return nil
}
