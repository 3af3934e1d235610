package cache

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
)

// GetMany answers a result for each key, in their order, duplicates included: ErrNotFound for an absent one, ErrInvalid for
// one that is no key. The call itself fails only as a whole: with ErrInvalid for more than MaxMany keys.
func (c *Cache) GetMany(ctx context.Context, caller components.Caller, keys []string) (results []Result, err error) {
	call, err := c.component.Begin(ctx, "get_many")
	if err != nil {
		return nil, err
	}
	defer call.End(&err)
	if err := checkCount(len(keys)); err != nil {
		return nil, err
	}
	results = make([]Result, len(keys))
	var stored []string
	var places []int // of stored, in results
	for i, key := range keys {
		results[i].Key = key
		s, err := caller.StoredKey(key)
		if err != nil {
			results[i].Err = err
			continue
		}
		stored, places = append(stored, s), append(places, i)
	}
	found, err := getMany(ctx, call.Driver, stored)
	if err != nil {
		return nil, err
	}
	for j, i := range places {
		results[i].Item, results[i].Err = found[j].Item, found[j].Err
	}
	return results, nil
}

func getMany(ctx context.Context, d Driver, keys []string) ([]Result, error) {
	if len(keys) == 0 {
		return []Result{}, nil
	}
	if m, ok := d.(ManyGetter); ok {
		results, err := m.GetMany(ctx, keys)
		return results, checkAnswer(len(results), len(keys), err)
	}
	results := make([]Result, len(keys))
	for i, key := range keys {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		results[i].Item, results[i].Err = d.Get(ctx, key)
	}
	return results, nil
}

// SetMany sets the entries one after the other and answers a result for each, in their order. It is no transaction: when the
// call fails as a whole, because ctx has ended or the store is away, some may have been set.
func (c *Cache) SetMany(ctx context.Context, caller components.Caller, entries []Entry) (results []SetResult, err error) {
	call, err := c.component.Begin(ctx, "set_many")
	if err != nil {
		return nil, err
	}
	defer call.End(&err)
	if err := checkCount(len(entries)); err != nil {
		return nil, err
	}
	results = make([]SetResult, len(entries))
	var checked []Entry
	var places []int // of checked, in results
	for i, entry := range entries {
		results[i].Key = entry.Key
		e, err := c.entry(call.Driver, caller, entry)
		if err != nil {
			results[i].Err = err
			continue
		}
		checked, places = append(checked, e), append(places, i)
	}
	done, err := setMany(ctx, call.Driver, checked)
	if err != nil {
		return nil, err
	}
	for j, i := range places {
		results[i].Version, results[i].Err = done[j].Version, done[j].Err
	}
	return results, nil
}

func setMany(ctx context.Context, d Driver, entries []Entry) ([]SetResult, error) {
	if len(entries) == 0 {
		return []SetResult{}, nil
	}
	if m, ok := d.(ManySetter); ok {
		results, err := m.SetMany(ctx, entries)
		return results, checkAnswer(len(results), len(entries), err)
	}
	results := make([]SetResult, len(entries))
	for i, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		results[i].Version, results[i].Err = d.Set(ctx, e.Key, e.Item, SetOptions{e.Condition})
	}
	return results, nil
}

func checkCount(n int) error {
	if n > MaxMany {
		return fmt.Errorf("%w: %d items in one call, at most %d are allowed", components.ErrInvalid, n, MaxMany)
	}
	return nil
}

// checkAnswer keeps a driver that answers too few results from being read past their end.
func checkAnswer(got, want int, err error) error {
	if err == nil && got != want {
		return fmt.Errorf("the driver answered %d results for %d items", got, want)
	}
	return err
}
