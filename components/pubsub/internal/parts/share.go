package parts

import (
	"maps"
	"slices"
)

// Wish is what a member would have of a group.
type Wish struct {
	Weight int     // streams that have room
	Owned  []int32 // what it has
}

// Share gives each part to a member, by their weights, and so that as few change hands as can be. It answers the same wherever it is asked
// with the same.
func Share(parts int32, members map[string]Wish) map[string][]int32 {
	names := slices.Sorted(maps.Keys(members))
	due := quotas(parts, names, members)
	plan, taken := map[string][]int32{}, make([]bool, parts)
	for _, name := range names {
		for _, p := range members[name].Owned {
			if p >= 0 && p < parts && !taken[p] && len(plan[name]) < due[name] {
				plan[name], taken[p] = append(plan[name], p), true
			}
		}
	}
	for p := range parts {
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

// quotas are how many parts each member is due: in proportion to its weight, or the same for all when none has room. What is left over
// stays where it is, if it can.
func quotas(parts int32, names []string, members map[string]Wish) map[string]int {
	weight := func(name string) int { return members[name].Weight }
	total := 0
	for _, name := range names {
		total += weight(name)
	}
	if total == 0 {
		weight = func(string) int { return 1 }
		total = len(names)
	}
	due, left := map[string]int{}, int(parts)
	for _, name := range names {
		due[name] = int(parts) * weight(name) / total
		left -= due[name]
	}
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return weight(name) == 0 })
	slices.SortStableFunc(rest, func(a, b string) int {
		if r := int(parts)*weight(b)%total - int(parts)*weight(a)%total; r != 0 {
			return r
		}
		return (len(members[b].Owned) - due[b]) - (len(members[a].Owned) - due[a])
	})
	for i := range left {
		due[rest[i]]++
	}
	return due
}
