package etcdconn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// errGap is that etcd does not know any more what has happened since.
var errGap = errors.New("what has happened meanwhile is not known any more")

// Follow calls whole, which reads what there is below a prefix and answers as of which revision, and then tells change of everything that
// happens after it, in order, over losses of the connection too. When etcd has forgotten what happened since, it calls whole again.
// It ends with ctx, with an error of whole or change that is not of the connection, or one of the first whole.
func (c *Conn) Follow(ctx context.Context, prefix string, whole func(context.Context) (int64, error), change func([]*clientv3.Event) error) error {
	rev, err := whole(ctx)
	if err != nil {
		return err
	}
	at := position{rev: rev}
	wait := backend.Backoff{First: 20 * time.Millisecond, Most: time.Second}
	for {
		err := c.follow(ctx, prefix, &at, func(events []*clientv3.Event) error {
			wait.Reset()
			return change(events)
		})
		if errors.Is(err, errGap) {
			next, failed := whole(ctx)
			if err = failed; err == nil {
				at = position{rev: next}
				continue
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !Away(err) {
			return err
		}
		if wait.Wait(ctx) != nil {
			return context.Cause(ctx)
		}
	}
}

// position is how far what has happened was told.
type position struct {
	rev     int64
	cluster uint64        // 0: not known yet
	last    *mvccpb.Event // that was told, in rev; nil: none
}

// check fails with errGap at an etcd that was restored from a backup, though it may have got as far as before meanwhile.
func (p *position) check(ctx context.Context, client *clientv3.Client, prefix string) error {
	got, err := client.Get(ctx, prefix, clientv3.WithKeysOnly())
	switch {
	case err != nil:
		return err
	case got.Header.Revision < p.rev, p.cluster != 0 && p.cluster != got.Header.ClusterId:
		return errGap
	}
	p.cluster = got.Header.ClusterId
	if p.last == nil {
		return nil
	}
	then, err := client.Get(ctx, string(p.last.Kv.Key), clientv3.WithRev(p.rev), clientv3.WithKeysOnly())
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil // what is missing of what came after it the watch says
	}
	if err == nil && (p.last.Type == mvccpb.Event_DELETE) != (len(then.Kvs) == 0) || err == nil && len(then.Kvs) > 0 && then.Kvs[0].ModRevision != p.rev {
		return errGap
	}
	return err
}

// follow tells what happens after a position, and keeps it, until the member is lost.
func (c *Conn) follow(ctx context.Context, prefix string, at *position, change func([]*clientv3.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var m *Member
	err := c.with(ctx, Safe, func(ctx context.Context, used *Member) error {
		m = used
		return at.check(ctx, m.Client, prefix)
	})
	if err != nil {
		return err
	}
	for news := range m.Client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(at.rev+1)) {
		if news.CompactRevision != 0 {
			return errGap
		}
		if err := news.Err(); err != nil {
			m.look()
			if strings.Contains(err.Error(), "permission denied") {
				return backend.Refused("etcd "+m.address, err)
			}
			return backend.Unreachable(ctx, "etcd "+m.address, err)
		}
		if len(news.Events) == 0 {
			continue
		}
		if err := change(news.Events); err != nil {
			return err
		}
		at.last = (*mvccpb.Event)(news.Events[len(news.Events)-1])
		at.rev = at.last.Kv.ModRevision
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.look()
	return backend.Unreachable(ctx, "etcd "+m.address, fmt.Errorf("%w: the watch has ended", components.ErrUnavailable))
}
