package memory

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// ReasonItemTooLarge is that of an item that would take more than max_item_bytes.
const ReasonItemTooLarge components.Reason = "ITEM_TOO_LARGE"

// never is later than any time.
const never = math.MaxInt64

// content is what an item consists of. What value and metadata point to never changes.
type content struct {
	value       []byte
	contentType string
	version     string
	metadata    map[string]string
}

// entry is an item in its shard.
type entry struct {
	content
	key     string
	hash    uint64
	size    int64
	expires int64
	place   int           // in the shard's expiring
	hits    atomic.Uint32 // up to maxHits; uses since it came into its queue
	queue   *queue
	next    *entry // older
	prev    *entry // newer
}

func (e *entry) expired(now int64) bool { return e.expires <= now }

// What an item takes besides its bytes: entry, version, its slot in the map and in expiring, and what the allocator rounds
// up; and what a map of metadata and a pair in it take. TestBoundIsOfRealMemory holds them against the heap.
const (
	overhead     = 256
	mapOverhead  = 320
	pairOverhead = 64
)

func sizeOf(key string, value int, contentType string, metadata map[string]string) int64 {
	size := overhead + len(key) + value + value/8 + len(contentType)
	if len(metadata) > 0 {
		size += mapOverhead
	}
	for k, v := range metadata {
		size += pairOverhead + len(k) + len(v)
	}
	return int64(size)
}

// shard is one part of the keys.
type shard struct {
	mu       sync.RWMutex
	entries  map[string]*entry
	small    queue // what came lately
	main     queue // what was asked for again
	ghosts   ghosts
	expiring expiring
	serial   uint64
}

func (sh *shard) init(maxBytes components.Size) {
	sh.entries = map[string]*entry{}
	sh.ghosts.remember(int64(maxBytes) / shards / 512)
}

// get answers a copy, and the time that is left: 0 if it does not end. Many may get at once: a use is noted without the lock
// for writing.
func (sh *shard) get(key string, now func() int64) (c content, left time.Duration, ok bool) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	e := sh.entries[key]
	if e == nil {
		return content{}, 0, false
	}
	if e.expires != never {
		// The clock is read under the lock: waiting for it may have taken longer than the item lives.
		if left = time.Duration(e.expires - now()); left <= 0 {
			return content{}, 0, false
		}
	}
	e.use()
	return e.content, left, true
}

// peek answers the entry of a key unless it has expired. It notes no use and frees nothing; the caller holds a lock.
func (sh *shard) peek(key string, now int64) *entry {
	if e := sh.entries[key]; e != nil && !e.expired(now) {
		return e
	}
	return nil
}

// live is peek for those who write: an expired entry is removed, and its bytes are freed.
func (sh *shard) live(key string, now int64) (e *entry, freed int64) {
	e = sh.entries[key]
	if e != nil && e.expired(now) {
		return nil, sh.remove(e)
	}
	return e, 0
}

// put gives old new content, or makes an entry if it is nil, and answers by how many bytes the shard has grown.
func (sh *shard) put(old *entry, key string, hash uint64, c content, expires int64) (grown int64) {
	e := old
	if e == nil {
		e = &entry{key: key, hash: hash, place: none, expires: never}
		sh.entries[key] = e
		if sh.ghosts.recall(hash) {
			sh.main.push(e)
		} else {
			sh.small.push(e)
		}
	} else {
		e.use()
	}
	e.content = c
	grown = sizeOf(e.key, len(c.value), c.contentType, c.metadata) - e.size
	e.size += grown
	e.queue.bytes += grown
	sh.expiring.set(e, expires)
	return grown
}

func (sh *shard) remove(e *entry) (freed int64) {
	delete(sh.entries, e.key)
	e.queue.drop(e)
	sh.expiring.set(e, never)
	return e.size
}

// expire removes what has expired, and lets others in between.
func (sh *shard) expire(now int64) (freed int64) {
	const atOnce = 256
	for n := atOnce; n == atOnce; {
		sh.mu.Lock()
		for n = 0; n < atOnce && sh.expiring.due(now); n++ {
			freed += sh.remove(sh.expiring[0])
		}
		sh.mu.Unlock()
	}
	return freed
}

func (sh *shard) clear() (freed int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	freed = sh.small.bytes + sh.main.bytes
	sh.entries, sh.small, sh.main, sh.expiring = map[string]*entry{}, queue{}, queue{}, nil
	return freed
}
