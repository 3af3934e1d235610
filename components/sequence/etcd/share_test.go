package etcd

import (
	"errors"
	"math"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
)

func TestShare(t *testing.T) {
	batch := []*ask{{n: 3}, {n: 1, ahead: 10}, {n: 2, ahead: 5}}
	if given, upTo := share(7, batch); given != 13 || upTo != 23 || batch[0].first != 8 || batch[1].first != 11 || batch[2].first != 12 {
		t.Errorf("given up to %d, put aside up to %d: %+v %+v %+v", given, upTo, *batch[0], *batch[1], *batch[2])
	}
	batch = []*ask{{n: 3}, {n: 2, ahead: 10}, {n: 1}}
	given, upTo := share(math.MaxInt64-2, batch)
	if given != math.MaxInt64 || upTo != given || !errors.Is(batch[0].err, components.ErrExhausted) || batch[1].first != math.MaxInt64-1 || batch[2].err == nil {
		t.Errorf("given up to %d, put aside up to %d: %+v %+v %+v", given, upTo, *batch[0], *batch[1], *batch[2])
	}
}
