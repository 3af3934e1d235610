package nacos

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

// watch is one call of Watch.
type watch struct {
	d      *driver
	sel    config.Selection
	places map[place]string // of prefixes: the namespace
	report func([]config.Change, bool) error
	told   map[string]mark        // by key; the watch's own
	later  map[string]*time.Timer // by key: when it is looked at again since a server may lag behind; the watch's own

	wake chan struct{} // holds an element while there is something to look at

	mu      sync.Mutex
	keys    map[nacosconn.DataID]string // that it listens to
	pending map[nacosconn.DataID]string // that are to be looked at
}

// mark is what was told of a key last.
type mark struct {
	version  string // empty: that it is absent, or nothing
	modified int64  // of the newest that was seen, which may be gone
	stale    bool

	older string    // version of an older one that the server shows; empty: none
	since time.Time // when it was seen first
}

// lag is how long a server may show what there was before. What it shows for longer is so: the clock of the data base was set back, or an
// older copy of it restored.
const lag = 30 * time.Second

// Watch has keys pushed, and looks for new ones below prefixes now and then.
func (d *driver) Watch(ctx context.Context, sel config.Selection, report func([]config.Change, bool) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.closed, cancel)()
	w := &watch{d: d, sel: sel, report: report, places: map[place]string{}, told: map[string]mark{}, later: map[string]*time.Timer{}, wake: make(chan struct{}, 1),
		keys: map[nacosconn.DataID]string{}, pending: map[nacosconn.DataID]string{}}
	for _, prefix := range sel.Prefixes {
		namespace, _, _ := strings.Cut(prefix, "/")
		w.places[place{d.options.tenant(namespace), d.options.Group}] = namespace
	}
	defer w.rest()
	d.hub.add(w)
	defer d.hub.client.Go(func() { d.hub.leave(w) })
	err := w.begin(ctx)
	if err == nil {
		err = w.follow(ctx)
	}
	if d.closed.Err() != nil {
		return nacosconn.Closed()
	}
	return err
}

func (h *hub) add(w *watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watches[w] = struct{}{}
}

func (w *watch) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// note says that a key that it listens to may have changed.
func (w *watch) note(id nacosconn.DataID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if key, ok := w.keys[id]; ok {
		w.pending[id] = key
		w.wakeUp()
	}
}

// offer says of a key that it may be new.
func (w *watch) offer(id nacosconn.DataID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if key, ok := w.wants(place{id.Tenant, id.Group}, id.DataID); ok && w.keys[id] == "" {
		w.pending[id] = key
		w.wakeUp()
	}
}

func (w *watch) wants(at place, id string) (full string, ok bool) {
	namespace, ok := w.places[at]
	key, known := keyOf(id)
	full = namespace + "/" + key
	return full, ok && known && w.sel.Has(full)
}

// begin tells what is there; or, while no server is, what was read before, until there is one.
func (w *watch) begin(ctx context.Context) error {
	err := w.look(ctx)
	if err == nil || !isAway(err) {
		return err
	}
	changes := w.d.snapshot.changes(w.sel)
	if len(changes) == 0 {
		return err
	}
	for _, c := range changes {
		w.told[c.Key] = mark{version: c.Item.Version, stale: true}
	}
	if err := w.report(changes, true); err != nil {
		return err
	}
	for wait := (backend.Backoff{Most: time.Second}); isAway(err); err = w.look(ctx) {
		if over := w.pause(ctx, wait.Next()); over != nil {
			return over
		}
	}
	return err
}

// pause waits until it is woken, or for this long.
func (w *watch) pause(ctx context.Context, long time.Duration) error {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.wake:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// look reads all that is selected, and tells of it as a whole.
func (w *watch) look(ctx context.Context) error {
	ids := map[nacosconn.DataID]string{}
	for _, key := range w.sel.Keys {
		id, err := w.d.options.at(key)
		if err != nil {
			return err
		}
		ids[id] = key
	}
	if err := w.find(ctx, 0, ids); err != nil {
		return err
	}
	return w.tell(ctx, ids, true)
}

// find looks for names below the prefixes.
func (w *watch) find(ctx context.Context, age time.Duration, into map[nacosconn.DataID]string) error {
	for at := range w.places {
		names, err := w.d.hub.names(ctx, at, age)
		if err != nil {
			return err
		}
		for _, name := range names {
			if key, ok := w.wants(at, name); ok {
				into[nacosconn.DataID{DataID: name, Group: at.group, Tenant: at.tenant}] = key
			}
		}
	}
	return nil
}

// tell listens to these, reads them, and reports what is new of them.
func (w *watch) tell(ctx context.Context, ids map[nacosconn.DataID]string, whole bool) error {
	w.mu.Lock()
	maps.Copy(w.keys, ids)
	w.mu.Unlock()
	if err := w.d.hub.join(ctx, w, slices.Collect(maps.Keys(ids))); err != nil {
		return err
	}
	keys := slices.Sorted(maps.Values(ids))
	states, err := w.d.readAll(ctx, keys)
	if err != nil {
		return err
	}
	var changes []config.Change
	for i, s := range states {
		if c, is := w.change(keys[i], s, whole); is {
			changes = append(changes, c)
		}
	}
	if len(changes) == 0 && !whole {
		return nil
	}
	return w.report(changes, whole)
}

// change is what is to be told of a key. A server that lags behind the one before tells nothing new, until it has been asked again.
func (w *watch) change(key string, s state, whole bool) (config.Change, bool) {
	last := w.told[key]
	switch {
	case !s.there:
		w.told[key] = mark{modified: last.modified}
		return config.Change{Key: key, Deleted: true}, last.version != "" && !whole
	case s.Modified < last.modified && w.lags(key, last, s):
		return config.Change{}, false
	case s.version() == last.version && !last.stale && !whole:
		last.older = ""
		w.told[key] = last
		return config.Change{}, false
	}
	w.told[key] = mark{version: s.version(), modified: s.Modified}
	return config.Change{Key: key, Item: s.item(key)}, true
}

// lags tells whether a state that is older than one before may be of a server that lags behind. Then the key is looked at again.
func (w *watch) lags(key string, last mark, s state) bool {
	if last.older == s.version() {
		return time.Since(last.since) < lag
	}
	last.older, last.since = s.version(), time.Now()
	w.told[key] = last
	if id, err := w.d.options.at(key); err == nil {
		if timer := w.later[key]; timer != nil {
			timer.Stop()
		}
		w.later[key] = time.AfterFunc(lag, func() { w.note(id) })
	}
	return true
}

// rest ends what would look at keys later.
func (w *watch) rest() {
	for _, timer := range w.later {
		timer.Stop()
	}
}

// follow tells of changes as they come.
func (w *watch) follow(ctx context.Context) error {
	var look <-chan time.Time
	if len(w.places) > 0 {
		tick := time.NewTicker(w.d.options.ListInterval)
		defer tick.Stop()
		look = tick.C
	}
	for wait := (backend.Backoff{Most: time.Second}); ; {
		select {
		case <-w.wake:
		case <-look:
			w.seek(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
		ids := w.take()
		err := w.tell(ctx, ids, false)
		switch {
		case err == nil:
			wait.Reset()
			continue
		case ctx.Err() != nil || !isAway(err): // of report, or denied
			return err
		}
		w.back(ids)
		if err := wait.Wait(ctx); err != nil {
			return err
		}
	}
}

// seek looks for new keys. If that fails, it is done again the next time.
func (w *watch) seek(ctx context.Context) {
	found := map[nacosconn.DataID]string{}
	if w.find(ctx, w.d.options.ListInterval/2, found) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, key := range found {
		if w.keys[id] == "" {
			w.pending[id] = key
		}
	}
}

func (w *watch) take() map[nacosconn.DataID]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.pending
	w.pending = map[nacosconn.DataID]string{}
	return all
}

// back puts what could not be looked at where it was.
func (w *watch) back(ids map[nacosconn.DataID]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.pending, ids)
	w.wakeUp()
}
