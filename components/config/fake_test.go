package config_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
)

var app = components.Caller{Namespace: "shop", App: "orders"}

// readOnly is a driver that the tests hold in their hands.
type readOnly struct {
	mu    sync.Mutex
	items map[string]config.Item
	down  error
	calls int
	feeds chan *feed
	early bool          // List ends where the values come to PageBytes
	slow  chan struct{} // if there is one, Get has its answer and waits for it
}

// writable is one that can be written to.
type writable struct{ *readOnly }

// feed is one call of Watch.
type feed struct {
	sel    config.Selection
	report func([]config.Change, bool) error
	end    chan error
}

func newFake() *readOnly {
	return &readOnly{items: map[string]config.Item{}, feeds: make(chan *feed, 10)}
}

func (d *readOnly) put(key, value, version string) config.Change {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.items[key] = config.Item{Key: key, Value: []byte(value), Version: version}
	return config.Change{Key: key, Item: d.items[key]}
}

func (d *readOnly) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = err
}

func (d *readOnly) called() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

func (d *readOnly) begin() error {
	d.calls++
	return d.down
}

func (d *readOnly) get(key string) (config.Item, chan struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(); err != nil {
		return config.Item{}, d.slow, err
	}
	item, ok := d.items[key]
	if !ok {
		return item, d.slow, components.ErrNotFound
	}
	return item, d.slow, nil
}

func (d *readOnly) Get(_ context.Context, key string) (config.Item, error) {
	item, slow, err := d.get(key)
	if slow != nil {
		<-slow
	}
	return item, err
}

func (d *readOnly) List(_ context.Context, prefix, after string, limit int) (items []config.Item, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(); err != nil {
		return nil, err
	}
	for key, item := range d.items {
		if strings.HasPrefix(key, prefix) && key > after {
			items = append(items, item)
		}
	}
	slices.SortFunc(items, func(a, b config.Item) int { return strings.Compare(a.Key, b.Key) })
	size := 0
	for i, item := range items {
		if i == limit || d.early && size >= config.PageBytes {
			return items[:i], nil
		}
		size += len(item.Value)
	}
	return items, nil
}

func (d *readOnly) Watch(ctx context.Context, sel config.Selection, report func([]config.Change, bool) error) error {
	d.mu.Lock()
	err := d.begin()
	d.mu.Unlock()
	if err != nil {
		return err
	}
	f := &feed{sel, report, make(chan error, 1)}
	d.feeds <- f
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-f.end:
		return err
	}
}

func (d writable) Set(_ context.Context, item config.Item, ifVersion string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(); err != nil {
		return "", err
	}
	item.Version = fmt.Sprint("v", d.calls, ifVersion)
	d.items[item.Key] = item
	return item.Version, nil
}

func (d writable) Delete(_ context.Context, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.items, key)
	return d.begin()
}

func component() *components.Component[config.Driver] {
	return components.NewComponent[config.Driver](components.ID{Capability: "config", Name: "default", Driver: "fake"}, components.Limits{}, nil)
}

func front(d config.Driver) (*config.Config, *components.Component[config.Driver]) {
	c := component()
	c.Set(d)
	return config.New(c), c
}

// reader is a watch and what it was sent.
type reader struct {
	stop  context.CancelFunc
	sent  chan string // each message as text
	ended chan error
}

// watch begins one; before each message is taken for sent, during is called.
func watch(t *testing.T, c *config.Config, sel config.Selection, during func()) *reader {
	ctx, stop := context.WithCancel(t.Context())
	r := &reader{stop, make(chan string, 10000), make(chan error, 1)}
	go func() {
		r.ended <- c.Watch(ctx, app, sel, func(m config.Message) error {
			r.sent <- text(m)
			if during != nil {
				during()
			}
			return nil
		})
	}()
	t.Cleanup(stop)
	return r
}

func text(m config.Message) string {
	var parts []string
	if m.Initial {
		parts = append(parts, "initial")
	}
	if m.More {
		parts = append(parts, "more")
	}
	for _, c := range m.Changes {
		switch {
		case c.Deleted:
			parts = append(parts, c.Key+" gone")
		case c.Item.Stale:
			parts = append(parts, c.Key+"="+string(c.Item.Value)+" stale")
		default:
			parts = append(parts, c.Key+"="+string(c.Item.Value))
		}
	}
	return strings.Join(parts, ", ")
}

func (r *reader) want(t *testing.T, want string) {
	t.Helper()
	if got := <-r.sent; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
}
