package kafka

import (
	"maps"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// protocol is the name of what members of a group say to each other: a group has members of one protocol only.
const protocol = "outrigger-1"

// wish is what a member says when it joins.
type wish struct {
	Member  string          `cbor:"1,keyasint"` // its own name for itself, as long as it is in the group without a break
	Weight  int             `cbor:"2,keyasint"` // streams that have room
	Owned   []int32         `cbor:"3,keyasint,omitempty"`
	Offered []int32         `cbor:"7,keyasint,omitempty"` // those of Owned that others may have: nothing is delivered of them now
	Settled []parts.Settled `cbor:"4,keyasint,omitempty"` // that another member is to know of
	Move    move            `cbor:"5,keyasint,omitempty"`
	Serial  uint64          `cbor:"6,keyasint"` // differs each time: else Kafka may see no reason to do anything
}

// move takes a group to a time, in milliseconds of the Unix epoch. Later ones have higher numbers.
type move struct {
	Number int64 `cbor:"1,keyasint"`
	Time   int64 `cbor:"2,keyasint"`
}

// orders are what the leader of the group tells each member beside its partitions.
type orders struct {
	Members []string        `cbor:"1,keyasint"` // all of them
	Settled []parts.Settled `cbor:"2,keyasint,omitempty"`
	Move    move            `cbor:"3,keyasint,omitempty"`
	Offer   []int32         `cbor:"4,keyasint,omitempty"` // partitions that another member is to have: it gets them once they are offered
	More    bool            `cbor:"5,keyasint,omitempty"` // some member is to offer something
}

// pack is for what cannot fail.
func pack(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// share plans who has which partition. The keys of members are Kafka's names of them.
func share(partitions int32, members map[string]wish) map[string][]int32 {
	all := map[string]parts.Wish{}
	for name, m := range members {
		all[name] = parts.Wish{Weight: m.Weight, Owned: m.Owned}
	}
	return parts.Share(partitions, all)
}

// instruct makes the orders of each member, and leaves partitions that are not offered where they are.
func instruct(plan map[string][]int32, members map[string]wish) map[string]orders {
	var common orders
	holds := map[int32]string{}
	for name, m := range members {
		for _, p := range m.Owned {
			if !slices.Contains(m.Offered, p) {
				holds[p] = name
			}
		}
	}
	owner, offers := map[int32]string{}, map[string][]int32{}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		plan[name] = slices.DeleteFunc(plan[name], func(p int32) bool { return holds[p] != "" && holds[p] != name })
		for _, p := range plan[name] {
			owner[p] = name
		}
	}
	for p, name := range holds {
		if owner[p] != name {
			plan[name], owner[p] = append(plan[name], p), name
			offers[name] = append(offers[name], p)
			common.More = true
		}
	}
	for _, m := range members {
		common.Members = append(common.Members, m.Member)
		if m.Move.Number > common.Move.Number {
			common.Move = m.Move
		}
	}
	slices.Sort(common.Members)
	all := map[string]orders{}
	for name := range members {
		o := common
		o.Offer = offers[name]
		all[name] = o
	}
	for _, m := range members {
		for _, s := range m.Settled {
			o := all[owner[s.Part]]
			o.Settled = append(o.Settled, s)
			all[owner[s.Part]] = o
		}
	}
	return all
}
