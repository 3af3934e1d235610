package memory

import "container/heap"

// none is the place of an entry that does not expire.
const none = -1

// expiring has the entries that expire, the next one first.
type expiring []*entry

// set changes when an entry expires.
func (x *expiring) set(e *entry, expires int64) {
	e.expires = expires
	switch {
	case expires == never && e.place != none:
		heap.Remove(x, e.place)
	case expires == never:
	case e.place == none:
		heap.Push(x, e)
	default:
		heap.Fix(x, e.place)
	}
}

// due tells whether the first one has expired.
func (x expiring) due(now int64) bool { return len(x) > 0 && x[0].expired(now) }

func (x expiring) Len() int           { return len(x) }
func (x expiring) Less(i, j int) bool { return x[i].expires < x[j].expires }

func (x expiring) Swap(i, j int) {
	x[i], x[j] = x[j], x[i]
	x[i].place, x[j].place = i, j
}

func (x *expiring) Push(v any) {
	e := v.(*entry)
	e.place = len(*x)
	*x = append(*x, e)
}

func (x *expiring) Pop() any {
	last := len(*x) - 1
	e := (*x)[last]
	(*x)[last] = nil
	*x = (*x)[:last]
	e.place = none
	return e
}
