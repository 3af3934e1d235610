package local

import "container/heap"

// heapOf are items by a number, the least first.
type heapOf struct{ list ranked }

type rank struct {
	by   uint64
	item *item
}

type ranked []rank

func (r ranked) Len() int           { return len(r) }
func (r ranked) Less(i, j int) bool { return r[i].by < r[j].by }
func (r ranked) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *ranked) Push(x any)        { *r = append(*r, x.(rank)) }
func (r *ranked) Pop() any {
	last := (*r)[len(*r)-1]
	(*r)[len(*r)-1] = rank{}
	*r = (*r)[:len(*r)-1]
	return last
}

func (h *heapOf) push(by uint64, it *item) { heap.Push(&h.list, rank{by, it}) }
func (h *heapOf) pop() *item               { return heap.Pop(&h.list).(rank).item }
func (h *heapOf) len() int                 { return len(h.list) }
func (h *heapOf) least() uint64            { return h.list[0].by }
func (h *heapOf) peek() *item              { return h.list[0].item }
