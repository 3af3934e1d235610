package local

import (
	"context"
	"errors"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// retry is after how long entries are tried to be removed again.
const retry = time.Second

// hold keeps a holder's entries for as long as its connection lasts.
func (m *machine) hold(ctx context.Context, peer store.Peer[holdIn, struct{}]) error {
	in, err := peer.Recv()
	if err != nil {
		return err
	}
	m.join(in.Holder)
	defer func() { m.leave(in.Holder, ending(ctx)) }()
	if err := m.write(ctx, in.Component, in.Holder, in.Records); err != nil {
		return err
	}
	if err := peer.Send(struct{}{}); err != nil {
		return err
	}
	return store.Listen(ctx, peer, nil, func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
}

// ending tells whether a call has ended because the store does.
func ending(ctx context.Context) bool {
	var d *components.Detail
	return errors.As(context.Cause(ctx), &d) && d.Reason == store.ReasonOwnerLost
}

func (m *machine) join(holder string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holders[holder]++
	delete(m.missing, holder)
}

// leave removes what a holder has whose connection has ended: its process has closed it, or is gone. But if it is the store that
// ends, the next owner waits for it.
func (m *machine) leave(holder string, ending bool) {
	m.mu.Lock()
	m.holders[holder]--
	alone := m.holders[holder] == 0
	if alone {
		delete(m.holders, holder)
	}
	m.mu.Unlock()
	if !alone || ending || m.ctx.Err() != nil {
		return
	}
	if err := m.remove(m.ctx, m.of(holder)); err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.missing[holder] = m.space.Now().Add(retry)
		stir(m.wake)
	}
}

// dropMissing removes the entries of those who have not come.
func (m *machine) dropMissing() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
		}
		over, next := m.over(m.space.Now())
		for _, holder := range over {
			if err := m.remove(m.ctx, m.of(holder)); err != nil && m.ctx.Err() == nil {
				m.log.Warn("records of a sidecar that is gone could not be removed", "op", "deregister", "err", err)
				m.mu.Lock()
				m.missing[holder] = m.space.Now().Add(retry)
				m.mu.Unlock()
				next = min(next, retry)
			}
		}
		timer.Reset(next)
	}
}

// over are the holders whose time is over, and how long it is until that of another one is.
func (m *machine) over(now db.Time) (over []string, next time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next = time.Hour
	for holder, at := range m.missing {
		if left := at.Sub(now); left > 0 {
			next = min(next, left)
			continue
		}
		over = append(over, holder)
		delete(m.missing, holder)
	}
	return over, next
}

// watch tells the list of a service, and again whenever it has changed. A reader that is slow misses lists between.
func (m *machine) watch(ctx context.Context, peer store.Peer[watchIn, watchOut]) error {
	in, err := peer.Recv()
	if err != nil {
		return err
	}
	l, wake := list{in.Component, in.Service}, make(chan struct{}, 1)
	m.mu.Lock()
	if m.watchers[l] == nil {
		m.watchers[l] = map[chan struct{}]struct{}{}
	}
	m.watchers[l][wake] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if delete(m.watchers[l], wake); len(m.watchers[l]) == 0 {
			delete(m.watchers, l)
		}
	}()
	return store.Listen(ctx, peer, nil, func(ctx context.Context) error {
		for {
			if err := peer.Send(watchOut{m.records(l)}); err != nil {
				return err
			}
			select {
			case <-wake:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}
