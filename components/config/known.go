package config

import "sync"

// knownBytes bounds the values that one component remembers for the time its back end is away.
const knownBytes = 16 << 20

// known remembers the last value of each key that was seen.
type known struct {
	limit int // in bytes

	mu    sync.Mutex
	clock uint64
	size  int
	items map[string]sighting
}

// sighting is a value and when it was seen: what was asked for before that is older, however late its answer comes.
type sighting struct {
	item Item
	at   uint64
}

// now is the time to give for an answer that is asked for after the call.
func (k *known) now() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.clock++
	return k.clock
}

func (k *known) put(key string, item Item, asOf uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.drops(key, asOf) {
		return
	}
	cost := weight(key, item)
	if cost > k.limit {
		return
	}
	for other := range k.items {
		if k.size+cost <= k.limit {
			break
		}
		k.remove(other)
	}
	if k.items == nil {
		k.items = map[string]sighting{}
	}
	k.items[key] = sighting{item, asOf}
	k.size += cost
}

func (k *known) drop(key string, asOf uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drops(key, asOf)
}

// drops removes what is known of a key unless it was seen later than asOf.
func (k *known) drops(key string, asOf uint64) bool {
	if old, ok := k.items[key]; ok {
		if old.at > asOf {
			return false
		}
		k.remove(key)
	}
	return true
}

func (k *known) remove(key string) {
	k.size -= weight(key, k.items[key].item)
	delete(k.items, key)
}

// get answers the last value of a key, marked as stale.
func (k *known) get(key string) (Item, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.items[key]
	s.item.Stale = true
	return s.item, ok
}

// selected are the last values of what is selected, as changes.
func (k *known) selected(sel Selection) (changes []Change) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, s := range k.items {
		if sel.Has(key) {
			s.item.Stale = true
			changes = append(changes, Change{Key: key, Item: s.item})
		}
	}
	return changes
}

func weight(key string, item Item) int {
	n := len(key) + len(item.Value) + len(item.ContentType) + len(item.Version) + 256
	for name, value := range item.Metadata {
		n += len(name) + len(value)
	}
	return n
}
