package api

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Budget bounds the bytes of the requests that are handled at once. What would go over it is refused at once. A nil Budget
// bounds nothing. Safe for concurrent use.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget makes one of so many bytes.
func NewBudget(limit components.Size) *Budget { return &Budget{limit: int64(limit)} }

// Limit is how many bytes there may be at once.
func (b *Budget) Limit() int64 {
	if b == nil {
		return math.MaxInt64
	}
	return b.limit
}

// Enter takes n bytes, or fails with ErrExhausted. Each needs a Leave of as many bytes, whether it failed or not.
func (b *Budget) Enter(n int64) error {
	if b == nil {
		return nil
	}
	if b.used.Add(n) <= b.limit {
		return nil
	}
	return &components.Detail{
		Err:        fmt.Errorf("%w: requests of %s are under way already", components.ErrExhausted, components.Size(b.limit)),
		Reason:     components.ReasonOverloaded,
		Metadata:   map[string]string{"hop": "api", "limit": "max_in_flight_bytes", "max": fmt.Sprint(b.limit)},
		RetryAfter: 100 * time.Millisecond,
	}
}

// Leave gives back what Enter took.
func (b *Budget) Leave(n int64) {
	if b != nil && n != 0 {
		b.used.Add(-n)
	}
}
