package mesh

import "sync/atomic"

// budget bounds how many calls of a service are repeated: each call earns the share of a repetition that the rule allows, a repetition
// costs one. The first two are lent, and the first calls earn nothing until these are paid for: so the share holds from then on.
type budget struct {
	left   atomic.Int64 // besides what was lent, in parts of a repetition
	repaid atomic.Int64
}

const (
	repetition   = whole // parts
	lent         = 2 * repetition
	mostInBudget = 10 * repetition // so that a good hour does not pay for a storm
)

// earn is called for each call.
func (b *budget) earn(share Percent) {
	if b.repaid.Load() < lent {
		b.repaid.Add(int64(share))
		return
	}
	for {
		now := b.left.Load()
		next := min(now+int64(share), mostInBudget)
		if next == now || b.left.CompareAndSwap(now, next) {
			return
		}
	}
}

// spend takes a repetition; false: there is none left.
func (b *budget) spend() bool {
	for {
		now := b.left.Load()
		if now+lent < repetition {
			return false
		}
		if b.left.CompareAndSwap(now, now-repetition) {
			return true
		}
	}
}
