package local

import (
	"hash/maphash"
	"sync"
)

const (
	hotShards = 64
	hotBytes  = 32 << 20 // of all shards
	hotRecord = 64 << 10 // larger records are not kept
	hotCost   = 128      // of a record besides its key and bytes, about
)

// hot has the records that were read of late. What it answers is what a look into the store would answer at that moment: a record leaves
// before the update that changes it is committed, and none comes in while there is such an update.
type hot struct {
	seed   maphash.Seed
	shards [hotShards]hotShard
}

type hotShard struct {
	mu      sync.Mutex
	records map[string]*hotItem
	bytes   int
	writing int    // updates between touch and settle
	changes uint64 // how many there were
}

type hotItem struct {
	record []byte // never changed
	used   bool   // since it was last passed over
}

func newHot() *hot {
	h := &hot{seed: maphash.MakeSeed()}
	for i := range h.shards {
		h.shards[i].records = map[string]*hotItem{}
	}
	return h
}

func (h *hot) shard(key []byte) *hotShard {
	return &h.shards[maphash.Bytes(h.seed, key)%hotShards]
}

// get answers a record that must not be changed, and otherwise what fill has to be told when the store was asked.
func (s *hotShard) get(key []byte) (record []byte, seen uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if item := s.records[string(key)]; item != nil {
		item.used = true
		return item.record, s.changes
	}
	return nil, s.changes
}

// fill keeps a copy of a record that was found in a view taken after get, unless something was written since.
func (s *hotShard) fill(key, record []byte, seen uint64) {
	cost := hotCost + len(key) + len(record)
	if cost > hotRecord {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing > 0 || s.changes != seen || s.records[string(key)] != nil {
		return
	}
	s.records[string(key)] = &hotItem{record: append(make([]byte, 0, len(record)), record...)}
	s.bytes += cost
	for s.bytes > hotBytes/hotShards {
		s.evict()
	}
}

// evict drops a record that was not used since it was last passed over. Which one comes first is the map's choice.
func (s *hotShard) evict() {
	for key, item := range s.records {
		if item.used {
			item.used = false
			continue
		}
		s.drop(key, item)
		return
	}
}

func (s *hotShard) drop(key string, item *hotItem) {
	delete(s.records, key)
	s.bytes -= hotCost + len(key) + len(item.record)
}

// touch says that a key will be written; settle, that this has been done, or not, and can be seen.
func (s *hotShard) touch(key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing++
	s.changes++
	if item := s.records[string(key)]; item != nil {
		s.drop(string(key), item)
	}
}

func (s *hotShard) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing--
	s.changes++
}
