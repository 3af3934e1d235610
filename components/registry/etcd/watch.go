package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// found is a record that somebody has written: an entry as it is in etcd, which is read anew for each report, since to keep what was read of
// each would take several times the memory.
type found struct {
	value string
	since int64 // Since, or the revision that it was written in
}

// Watch keeps what there is below the service's list, and tells all of it whenever something has changed.
func (d *driver) Watch(ctx context.Context, s registry.Service, report func([]registry.Record) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.ended, func() { cancel(errClosed) })()
	list, all := d.list(s), map[string]found{}
	whole := func(ctx context.Context) (revision int64, err error) {
		clear(all)
		err = d.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
			got, err := client.Get(ctx, list, clientv3.WithPrefix())
			if err != nil {
				return err
			}
			revision = got.Header.Revision
			for _, kv := range got.Kvs {
				d.take(all, list, kv)
			}
			return nil
		})
		if err == nil {
			err = report(records(s, list, all))
		}
		return revision, err
	}
	err := d.conn.Follow(ctx, list, whole, func(events []*clientv3.Event) error {
		for _, e := range events {
			if e.Type == mvccpb.Event_DELETE {
				delete(all, string(e.Kv.Key))
			} else {
				d.take(all, list, e.Kv)
			}
		}
		return report(records(s, list, all))
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// take takes in what was written. What is no record is left out: anybody may write there.
func (d *driver) take(all map[string]found, list string, kv *mvccpb.KeyValue) {
	key := string(kv.Key)
	_, err := addressOf(key[len(list):])
	var e entry
	if err == nil {
		err = json.Unmarshal(kv.Value, &e)
	}
	if err != nil {
		delete(all, key)
		d.log.Warn("what is no record is not listed", "op", "watch", "record", key, "err", err)
		return
	}
	both := key + string(kv.Value) // one string for both: there may be very many
	delete(all, key)               // or the key would be kept that is there
	all[both[:len(key)]] = found{value: both[len(key):], since: cmp.Or(e.Since, kv.ModRevision)}
}

// records are those of a service: of those with one address the one that came last.
func records(s registry.Service, list string, all map[string]found) []registry.Record {
	newest := make(map[string]found, len(all))
	for key, f := range all {
		address, _ := addressOf(key[len(list):]) // take has looked
		if f.since > newest[address].since {
			newest[address] = f
		}
	}
	out := make([]registry.Record, 0, len(newest))
	for _, address := range slices.Sorted(maps.Keys(newest)) {
		var e entry
		if json.Unmarshal([]byte(newest[address].value), &e) == nil { // take has looked
			out = append(out, registry.Record{Service: s, Address: address, Weight: e.Weight, Metadata: e.Metadata})
		}
	}
	return out
}
