package rpcproxy

import (
	"math"
	"testing"
)

// Ids begin again before they outgrow Bolt's 32 bits, and none is given to two calls under way.
func TestIDsBeginAgain(t *testing.T) {
	c := &conn{nextID: math.MaxInt32 - 1, pending: map[uint64]*Call{1: nil, 2: nil}}
	for _, want := range []uint64{math.MaxInt32, 3, 4} {
		if got := c.newID(); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
}
