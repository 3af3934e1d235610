package local

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// messageBytes is what the values of a message come to at most, unless there is only one.
const messageBytes = 4 << 20

// watcher is one watch, and the keys that have changed since it was told.
type watcher struct {
	sel     config.Selection // of keys with the component
	wake    chan struct{}    // something is pending
	mu      sync.Mutex
	pending map[string]struct{}
}

// changed tells the watchers of a key, once what became of it can be seen.
func (m *machine) changed(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.watchers {
		if w.sel.Has(key) {
			w.note(key)
		}
	}
}

func (w *watcher) note(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[key] = struct{}{}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := slices.Sorted(maps.Keys(w.pending))
	clear(w.pending)
	return keys
}

// watch tells what is there, and then, of each key that changes, what became of it. A reader that is slow misses values between.
func (m *machine) watch(ctx context.Context, peer store.Peer[watchIn, watchOut]) error {
	in, err := peer.Recv()
	if err != nil {
		return err
	}
	w := &watcher{sel: config.Selection{Keys: in.Keys, Prefixes: in.Prefixes}, wake: make(chan struct{}, 1), pending: map[string]struct{}{}}
	m.mu.Lock()
	m.watchers[w] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, w)
	}()
	if err := m.tellAll(peer, w); err != nil {
		return err
	}
	return store.Listen(ctx, peer, nil, func(ctx context.Context) error {
		for {
			select {
			case <-w.wake:
				if err := m.tell(peer, w.take()); err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// tellAll says what is there of what is selected, each key once, in parts.
func (m *machine) tellAll(peer store.Peer[watchIn, watchOut], w *watcher) error {
	v := m.space.View()
	defer v.Close()
	p := &parts{out: watchOut{Initial: true}, send: peer.Send}
	told := map[string]bool{}
	add := func(key string, raw []byte) error {
		if told[key] {
			return nil
		}
		told[key] = true
		item, err := decode(key, raw)
		if err != nil {
			return err
		}
		return p.add(item)
	}
	for _, key := range w.sel.Keys {
		raw, ok, err := v.Get([]byte(key))
		if err == nil && ok {
			err = add(key, raw)
		}
		if err != nil {
			return err
		}
	}
	for _, prefix := range w.sel.Prefixes {
		for key, raw := range v.Scan([]byte(prefix), db.After([]byte(prefix))) {
			if err := add(string(key), raw); err != nil {
				return err
			}
		}
	}
	if err := v.Err(); err != nil {
		return err
	}
	return p.end()
}

// tell says what has become of keys. Each view shows no less than the one before it.
func (m *machine) tell(peer store.Peer[watchIn, watchOut], keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	v := m.space.View()
	defer v.Close()
	p := &parts{send: peer.Send}
	for _, key := range keys {
		raw, ok, err := v.Get([]byte(key))
		if err != nil {
			return err
		}
		if !ok {
			p.out.Gone = append(p.out.Gone, key)
			continue
		}
		item, err := decode(key, raw)
		if err == nil {
			err = p.add(item)
		}
		if err != nil {
			return err
		}
	}
	return p.end()
}

// parts sends what is large in several messages.
type parts struct {
	out   watchOut
	bytes int
	send  func(watchOut) error
}

func (p *parts) add(item config.Item) error {
	if p.bytes > 0 && p.bytes+len(item.Value) > messageBytes {
		whole := p.out
		whole.More = whole.Initial
		if err := p.send(whole); err != nil {
			return err
		}
		p.out, p.bytes = watchOut{Initial: whole.Initial}, 0
	}
	p.out.Items = append(p.out.Items, item)
	p.bytes += len(item.Key) + len(item.Value)
	return nil
}

func (p *parts) end() error { return p.send(p.out) }
