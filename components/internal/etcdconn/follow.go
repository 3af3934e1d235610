package etcdconn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

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
	wait := backend.Backoff{First: 20 * time.Millisecond, Most: time.Second}
	for {
		err := c.follow(ctx, prefix, &rev, func(events []*clientv3.Event) error {
			wait.Reset()
			return change(events)
		})
		if errors.Is(err, errGap) {
			next, failed := whole(ctx)
			if err = failed; err == nil {
				rev = next
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

// follow tells what happens after rev, and keeps rev, until the member is lost.
func (c *Conn) follow(ctx context.Context, prefix string, rev *int64, change func([]*clientv3.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var m *Member
	err := c.with(ctx, Safe, func(ctx context.Context, used *Member) error {
		m = used
		got, err := m.Client.Get(ctx, prefix, clientv3.WithKeysOnly())
		if err == nil && got.Header.Revision < *rev { // it was restored from a backup
			return errGap
		}
		return err
	})
	if err != nil {
		return err
	}
	for news := range m.Client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(*rev+1)) {
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
		*rev = news.Events[len(news.Events)-1].Kv.ModRevision
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.look()
	return backend.Unreachable(ctx, "etcd "+m.address, fmt.Errorf("%w: the watch has ended", components.ErrUnavailable))
}
