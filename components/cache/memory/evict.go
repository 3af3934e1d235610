package memory

// maxHits is how many uses are counted, and so how often an entry may go round the main queue unused.
const maxHits = 3

// use notes one. Two at once may count as one: it is a hint.
func (e *entry) use() {
	if n := e.hits.Load(); n < maxHits {
		e.hits.Store(n + 1)
	}
}

// evict removes one entry, an expired one if there is one, and answers the bytes freed: 0 if the shard is empty.
//
// This is S3-FIFO (Yang et al., SOSP 2023) with queues measured in bytes: new entries pass through the small queue, a tenth of
// the shard; those used more than once meanwhile move to the main queue, whose entries stay for another round for each use.
// Those that leave the small queue are remembered as ghosts, and go to the main queue when they come back.
func (sh *shard) evict(now int64) (freed int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.expiring.due(now) {
		return sh.remove(sh.expiring[0])
	}
	for {
		if sh.small.oldest != nil && (sh.main.oldest == nil || sh.small.bytes > (sh.small.bytes+sh.main.bytes)/10) {
			e := sh.small.oldest
			if e.hits.Load() <= 1 {
				sh.ghosts.add(e.hash)
				return sh.remove(e)
			}
			e.hits.Store(0)
			sh.small.drop(e)
			sh.main.push(e)
			continue
		}
		e := sh.main.oldest
		if e == nil {
			return 0
		}
		hits := e.hits.Load()
		if hits == 0 {
			return sh.remove(e)
		}
		e.hits.Store(hits - 1)
		sh.main.drop(e)
		sh.main.push(e)
	}
}

// queue is first in, first out.
type queue struct {
	newest, oldest *entry
	bytes          int64
}

func (q *queue) push(e *entry) {
	e.queue, e.prev, e.next = q, nil, q.newest
	if q.newest != nil {
		q.newest.prev = e
	} else {
		q.oldest = e
	}
	q.newest = e
	q.bytes += e.size
}

func (q *queue) drop(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		q.newest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		q.oldest = e.prev
	}
	q.bytes -= e.size
	e.queue, e.prev, e.next = nil, nil, nil
}

// ghosts remembers keys by a part of their hash, each in the one place it can have: a later one takes the place of an
// earlier. To forget, or to take one key for another, costs a worse choice and nothing more.
type ghosts struct {
	prints []uint32
	mask   uint64
}

// remember makes places for about n, when the first is added.
func (g *ghosts) remember(n int64) {
	g.mask = 63
	for int64(g.mask) < n && g.mask < 1<<16 {
		g.mask = g.mask<<1 | 1
	}
}

// The lowest bits have chosen the shard already.
func (g *ghosts) place(hash uint64) (slot uint64, print uint32) {
	return hash / shards & g.mask, uint32(hash>>32) | 1
}

func (g *ghosts) add(hash uint64) {
	if g.prints == nil {
		g.prints = make([]uint32, g.mask+1)
	}
	slot, print := g.place(hash)
	g.prints[slot] = print
}

// recall tells whether a key is remembered, and forgets it.
func (g *ghosts) recall(hash uint64) bool {
	if g.prints == nil {
		return false
	}
	slot, print := g.place(hash)
	if g.prints[slot] != print {
		return false
	}
	g.prints[slot] = 0
	return true
}
