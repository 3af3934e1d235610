package state

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
)

// digest tells transactions apart that have the same idempotency key. It is stored, so it must not change: each field of each
// operation and of the barrier, numbers as 8 bytes and texts after their length, in the order below. The fence is left out: who repeats
// a call may have had to take the lock again.
func digest(t Transaction) string {
	w := writer{make([]byte, 0, 256)}
	w.number(len(t.Operations))
	for i := range t.Operations {
		op := &t.Operations[i]
		w.number(int(op.Kind))
		w.text(op.Key)
		w.text(op.IfVersion)
		if op.IfAbsent {
			w.number(1)
		} else {
			w.number(0)
		}
		w.number(int(op.Item.TTL))
		w.text(op.Item.ContentType)
		w.number(len(op.Item.Metadata))
		for _, k := range slices.Sorted(maps.Keys(op.Item.Metadata)) {
			w.text(k)
			w.text(op.Item.Metadata[k])
		}
		value := sha256.Sum256(op.Item.Value) // not copied
		w.bytes = append(w.bytes, value[:]...)
	}
	w.text(t.Barrier.GID)
	w.text(t.Barrier.Branch)
	w.text(t.Barrier.Op)
	sum := sha256.Sum256(w.bytes)
	return string(sum[:])
}

type writer struct{ bytes []byte }

func (w *writer) number(n int)  { w.bytes = binary.BigEndian.AppendUint64(w.bytes, uint64(n)) }
func (w *writer) text(s string) { w.number(len(s)); w.bytes = append(w.bytes, s...) }
