package client

import (
	"context"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
)

// GetResult is what GetMany answers for one key.
type GetResult struct {
	Key  string
	Item Item
	Err  error // ErrNotFound for an absent key
}

// GetMany answers one result for each of up to 1000 keys, in their order. It fails only as a whole.
func (c *Cache) GetMany(ctx context.Context, keys ...string) ([]GetResult, error) {
	r, err := c.api.GetMany(ctx, &cachev1.GetManyRequest{Component: c.component, Keys: keys})
	if err != nil {
		return nil, err
	}
	results := make([]GetResult, 0, len(keys))
	for _, one := range r.GetResults() {
		result := GetResult{Key: one.GetKey(), Err: failure(one.GetError())}
		if result.Err == nil {
			result.Item = cacheItem(one.GetItem())
		}
		results = append(results, result)
	}
	return results, nil
}

// Entry is an item under its key.
type Entry struct {
	Key  string
	Item Item
	When Condition // nil: always
}

// SetResult is what SetMany answers for one entry.
type SetResult struct {
	Key     string
	Version string
	Err     error
}

// SetMany stores up to 1000 items, and answers one result for each, in their order. It is not a transaction.
func (c *Cache) SetMany(ctx context.Context, entries ...Entry) ([]SetResult, error) {
	in := &cachev1.SetManyRequest{Component: c.component}
	for _, e := range entries {
		one := c.setRequest(e.Key, e.Item)
		if e.When != nil {
			var err error
			if one, err = with(one, []Condition{e.When}); err != nil {
				return nil, err
			}
		}
		in.Items = append(in.Items, one)
	}
	r, err := c.api.SetMany(ctx, in)
	if err != nil {
		return nil, err
	}
	results := make([]SetResult, 0, len(entries))
	for _, one := range r.GetResults() {
		results = append(results, SetResult{one.GetKey(), one.GetVersion(), failure(one.GetError())})
	}
	return results, nil
}
