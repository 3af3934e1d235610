package config

import (
	"maps"
	"slices"
	"sync"
)

// watcher is what lies between a driver that reports and a reader that may be slow: one pending change a key, and what the
// reader was told last of each.
type watcher struct {
	sel   Selection
	exact map[string]bool // sel.Keys
	strip int             // bytes of the namespace before each key
	send  func(Message) error
	begun bool          // the initial state has been sent; the sender's own
	wake  chan struct{} // holds one element while there is something to send

	mu      sync.Mutex
	live    bool // the driver has reported a whole state
	told    map[string]mark
	pending map[string]Change
}

// mark is a change without its content. A key outside exact that has none is one that the reader takes for absent.
type mark struct {
	version        string
	deleted, stale bool
}

func markOf(c Change) mark {
	if c.Deleted {
		return mark{deleted: true}
	}
	return mark{version: c.Item.Version, stale: c.Item.Stale}
}

func newWatcher(sel Selection, strip int, send func(Message) error) *watcher {
	w := &watcher{sel: sel, strip: strip, send: send, wake: make(chan struct{}, 1),
		exact: map[string]bool{}, told: map[string]mark{}, pending: map[string]Change{}}
	for _, key := range sel.Keys {
		w.exact[key] = true
	}
	return w
}

func (w *watcher) isLive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.live
}

// report takes what the driver says, which is the truth from now on.
func (w *watcher) report(changes []Change, whole bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if whole {
		w.live = true
		changes = append(w.missing(changes), changes...)
	}
	for _, c := range changes {
		w.note(c)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take notes what was known before the driver could be asked.
func (w *watcher) take(changes []Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range changes {
		w.note(c)
	}
}

// missing says of each key that a whole state does not hold that it is absent: those asked for by name, and those that
// were there before.
func (w *watcher) missing(whole []Change) (gone []Change) {
	there := make(map[string]bool, len(whole))
	for _, c := range whole {
		there[c.Key] = true
	}
	before := maps.Clone(w.exact)
	for key := range w.told {
		before[key] = true
	}
	for key := range w.pending {
		before[key] = true
	}
	for key := range before {
		if !there[key] {
			gone = append(gone, Change{Key: key, Deleted: true})
		}
	}
	return gone
}

func (w *watcher) note(c Change) {
	last, told := w.told[c.Key]
	if !told && !w.exact[c.Key] {
		last, told = mark{deleted: true}, true
	}
	if told && last == markOf(c) {
		delete(w.pending, c.Key)
		return
	}
	w.pending[c.Key] = c
}

// flush sends what is pending. The initial state goes out even if nothing is there, and is what was pending when it began:
// changes that come meanwhile follow it, or else it would never end where values change all the time.
func (w *watcher) flush() error {
	for {
		keys := w.due()
		if len(keys) == 0 && (w.begun || !w.isLive()) {
			return nil
		}
		for len(keys) > 0 || !w.begun {
			m := Message{Initial: !w.begun}
			m.Changes, keys = w.next(keys)
			m.More = m.Initial && len(keys) > 0
			w.begun = w.begun || len(keys) == 0
			if len(m.Changes) == 0 && !m.Initial {
				continue
			}
			if err := w.send(m); err != nil {
				return err
			}
		}
	}
}

// due are the keys of what is pending, sorted.
func (w *watcher) due() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.pending))
}

// next takes what is still pending of keys, as much as PageBytes hold, and answers the keys that are left.
func (w *watcher) next(keys []string) (changes []Change, left []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := 0
	for i, key := range keys {
		c, ok := w.pending[key]
		if !ok {
			continue
		}
		if size += sizeOf(c); len(changes) > 0 && size > PageBytes {
			return changes, keys[i:]
		}
		delete(w.pending, key)
		if c.Deleted && !w.exact[key] {
			delete(w.told, key)
		} else {
			w.told[key] = markOf(c)
		}
		c.Key = key[w.strip:]
		c.Item.Key = c.Key
		changes = append(changes, c)
	}
	return changes, nil
}

// sizeOf is about what a change takes on the wire, where its key is named twice.
func sizeOf(c Change) int {
	const lengths = 32 // of the fields, and their numbers
	size := lengths + 2*len(c.Key) + len(c.Item.Value) + len(c.Item.ContentType) + len(c.Item.Version)
	for name, value := range c.Item.Metadata {
		size += lengths + len(name) + len(value)
	}
	return size
}
