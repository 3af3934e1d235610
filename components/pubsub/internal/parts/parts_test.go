package parts_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/quick"

	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

func TestProgressIsReadAsItWasWritten(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		p := parts.Begin(random.Int64N(1 << 40))
		p.Count, p.Moved = 3, int64(round)
		p.Known = p.Offset + random.Int64N(3000)
		for o := p.Offset; o < p.Known; o++ {
			if random.IntN(3) == 0 {
				p.Open[o] = parts.Try{Attempts: random.IntN(3), Due: []int64{0, 1_800_000_000_000 + random.Int64N(1000)}[random.IntN(2)], Holder: []string{"", "a", "b"}[random.IntN(3)]}
			}
		}
		raw, deflated := p.Encode()
		got, err := parts.Decode(p.Offset, raw, deflated)
		if err != nil {
			t.Fatal(err)
		}
		if got.Count != p.Count || got.Moved != p.Moved || got.Known != p.Known || !maps.Equal(got.Open, p.Open) {
			t.Fatalf("read is %+v\nwritten was %+v", got, p)
		}
	}
	if err := quick.Check(func(raw []byte, packed bool) bool {
		_, _ = parts.Decode(1, raw, packed) // must not panic
		return true
	}, nil); err != nil {
		t.Error(err)
	}
}

func TestSharesFollowWeightsAndStayPut(t *testing.T) {
	plan := parts.Share(6, map[string]parts.Wish{"a": {Weight: 1, Owned: []int32{0, 1, 2, 3, 4, 5}}, "b": {Weight: 1}, "c": {Weight: 1}})
	for _, name := range []string{"a", "b", "c"} {
		if len(plan[name]) != 2 {
			t.Errorf("of equals %s has %v", name, plan[name])
		}
	}
	plan = parts.Share(6, map[string]parts.Wish{"a": {Weight: 2}, "b": {Weight: 1}, "c": {Owned: []int32{0, 1, 2, 3, 4, 5}}})
	if len(plan["a"]) != 4 || len(plan["b"]) != 2 || len(plan["c"]) != 0 {
		t.Errorf("by weights 2, 1, 0: %v", plan)
	}
	plan = parts.Share(3, map[string]parts.Wish{"a": {}, "b": {}})
	if len(plan["a"])+len(plan["b"]) != 3 {
		t.Errorf("nobody has room: %v", plan)
	}
	wishes := map[string]parts.Wish{"a": {Weight: 1, Owned: []int32{2, 4}}, "b": {Weight: 1, Owned: []int32{0, 1, 3}}}
	plan = parts.Share(5, wishes)
	slices.Sort(plan["b"])
	if !slices.Equal(plan["a"], []int32{2, 4}) || !slices.Equal(plan["b"], []int32{0, 1, 3}) {
		t.Errorf("nothing has changed, and the plan is %v", plan)
	}
}
