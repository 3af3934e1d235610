// Package parts keeps what a sidecar has of a group whose topic is divided into parts, each of which one sidecar has at a time: what has
// been read of them, in what order it may be delivered, which stream has what, and what is to be kept of all that.
//
// Parts change hands at once, also those with deliveries under way: what is kept names the sidecar that has those, the new owner leaves
// them alone as long as that one is in the group, and is told how they end. A driver reads parts, keeps what is to be kept, decides with the
// other sidecars who has which part, and carries what they tell each other.
package parts

import "container/heap"

// Place is that of an event in its topic.
type Place struct {
	Part   int32
	Offset int64
}

// Settled says how a delivery ended that its member had of a part which another one has got meanwhile.
type Settled struct {
	Member   string `cbor:"1,keyasint"`
	Part     int32  `cbor:"2,keyasint"`
	Offset   int64  `cbor:"3,keyasint"`
	Again    bool   `cbor:"4,keyasint,omitempty"`
	Attempts int    `cbor:"5,keyasint,omitempty"`
	Due      int64  `cbor:"6,keyasint,omitempty"` // in milliseconds of the Unix epoch
}

// Reading is how a driver reads a part. Both are called with the group's lock held, and do not wait.
type Reading interface {
	// Stop ends it soon. What it takes in then is passed over.
	Stop()
	// Pause has it read no more than what is on its way, or go on.
	Pause(paused bool)
}

// heapOf is a heap by less.
type heapOf[T any] struct {
	list []T
	less func(a, b T) bool
}

func (h *heapOf[T]) Len() int           { return len(h.list) }
func (h *heapOf[T]) Less(i, j int) bool { return h.less(h.list[i], h.list[j]) }
func (h *heapOf[T]) Swap(i, j int)      { h.list[i], h.list[j] = h.list[j], h.list[i] }

// Push is for container/heap.
func (h *heapOf[T]) Push(x any) { h.list = append(h.list, x.(T)) }

// Pop is for container/heap.
func (h *heapOf[T]) Pop() any {
	last := len(h.list) - 1
	x := h.list[last]
	var none T
	h.list[last] = none
	h.list = h.list[:last]
	return x
}

func (h *heapOf[T]) push(x T) { heap.Push(h, x) }
func (h *heapOf[T]) pop() T   { return heap.Pop(h).(T) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
