package kafka

import (
	"maps"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// protocol is the name of what members of a group say to each other: a group has members of one protocol only.
const protocol = "outrigger-1"

// wish is what a member says when it joins.
type wish struct {
	Member  string    `cbor:"1,keyasint"` // its own name for itself, as long as it is in the group without a break
	Weight  int       `cbor:"2,keyasint"` // streams that have room
	Owned   []int32   `cbor:"3,keyasint,omitempty"`
	Offered []int32   `cbor:"7,keyasint,omitempty"` // those of Owned that others may have: nothing is delivered of them now
	Settled []settled `cbor:"4,keyasint,omitempty"` // that another member is to know of
	Move    move      `cbor:"5,keyasint,omitempty"`
	Serial  uint64    `cbor:"6,keyasint"` // differs each time: else Kafka may see no reason to do anything
}

// settled says how a delivery ended that its member had of a partition which another one has got meanwhile.
type settled struct {
	Member    string `cbor:"1,keyasint"`
	Partition int32  `cbor:"2,keyasint"`
	Offset    int64  `cbor:"3,keyasint"`
	Again     bool   `cbor:"4,keyasint,omitempty"`
	Attempts  int    `cbor:"5,keyasint,omitempty"`
	Due       int64  `cbor:"6,keyasint,omitempty"`
}

// move takes a group to a time, in milliseconds of the Unix epoch. Later ones have higher numbers.
type move struct {
	Number int64 `cbor:"1,keyasint"`
	Time   int64 `cbor:"2,keyasint"`
}

// orders are what the leader of the group tells each member beside its partitions.
type orders struct {
	Members []string  `cbor:"1,keyasint"` // all of them
	Settled []settled `cbor:"2,keyasint,omitempty"`
	Move    move      `cbor:"3,keyasint,omitempty"`
	Offer   []int32   `cbor:"4,keyasint,omitempty"` // partitions that another member is to have: it gets them once they are offered
	More    bool      `cbor:"5,keyasint,omitempty"` // some member is to offer something
}

// pack is for what cannot fail.
func pack(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// share gives each partition to a member, by their weights, and so that as few change hands as can be. The keys of members are
// Kafka's names of them.
func share(partitions int32, members map[string]wish) map[string][]int32 {
	names := slices.Sorted(maps.Keys(members))
	due := quotas(partitions, names, members)
	plan, taken := map[string][]int32{}, make([]bool, partitions)
	for _, name := range names {
		for _, p := range members[name].Owned {
			if p >= 0 && p < partitions && !taken[p] && len(plan[name]) < due[name] {
				plan[name], taken[p] = append(plan[name], p), true
			}
		}
	}
	for p := range partitions {
		if taken[p] {
			continue
		}
		for _, name := range names {
			if len(plan[name]) < due[name] {
				plan[name] = append(plan[name], p)
				break
			}
		}
	}
	return plan
}

// quotas are how many partitions each member is due: in proportion to its weight, or the same for all when none has room. What is left
// over stays where it is, if it can.
func quotas(partitions int32, names []string, members map[string]wish) map[string]int {
	weight := func(name string) int { return members[name].Weight }
	total := 0
	for _, name := range names {
		total += weight(name)
	}
	if total == 0 {
		weight = func(string) int { return 1 }
		total = len(names)
	}
	due, left := map[string]int{}, int(partitions)
	for _, name := range names {
		due[name] = int(partitions) * weight(name) / total
		left -= due[name]
	}
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return weight(name) == 0 })
	slices.SortStableFunc(rest, func(a, b string) int {
		if r := int(partitions)*weight(b)%total - int(partitions)*weight(a)%total; r != 0 {
			return r
		}
		return (len(members[b].Owned) - due[b]) - (len(members[a].Owned) - due[a])
	})
	for i := range left {
		due[rest[i]]++
	}
	return due
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
			o := all[owner[s.Partition]]
			o.Settled = append(o.Settled, s)
			all[owner[s.Partition]] = o
		}
	}
	return all
}
