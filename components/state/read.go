package state

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components"
)

// GetMany answers a result for each key, in their order, duplicates included: ErrNotFound for an absent one, ErrInvalid for
// one that is no key. The call itself fails only as a whole: with ErrInvalid for more than MaxMany keys, with ErrExhausted
// when what was found comes to more than ManyBytes.
func (s *State) GetMany(ctx context.Context, caller components.Caller, keys []string) (results []GetResult, err error) {
	call, err := s.component.Begin(ctx, "get_many")
	if err != nil {
		return nil, err
	}
	defer call.End(&err)
	if len(keys) > MaxMany {
		return nil, invalid("%d keys in one call, at most %d are allowed", len(keys), MaxMany)
	}
	results = make([]GetResult, len(keys))
	var whole []string
	var places []int // of whole, in results
	for i, key := range keys {
		results[i].Key = key
		k, err := caller.StoredKey(key)
		if err != nil {
			results[i].Err = err
			continue
		}
		whole, places = append(whole, k), append(places, i)
	}
	found, err := getMany(ctx, call.Driver, whole)
	if err != nil {
		return nil, err
	}
	for j, i := range places {
		results[i].Item, results[i].Err = found[j].Item, found[j].Err
	}
	return results, nil
}

func getMany(ctx context.Context, d Driver, keys []string) ([]GetResult, error) {
	if len(keys) == 0 {
		return []GetResult{}, nil
	}
	if m, ok := d.(ManyGetter); ok {
		results, err := m.GetMany(ctx, keys)
		if err == nil && len(results) != len(keys) {
			return nil, wrongCount(len(results), len(keys))
		}
		return results, err
	}
	results := make([]GetResult, len(keys))
	bytes := 0
	for i, key := range keys {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		results[i].Item, results[i].Err = d.Get(ctx, key)
		if bytes += results[i].Item.Bytes(); bytes > ManyBytes {
			return nil, TooMuch()
		}
	}
	return results, nil
}

// List answers the caller's entries whose keys begin with prefix, sorted by the bytes of their keys: pageSize of them (0: 1000), or
// fewer when they are large, and the token of the next page, empty on the last one. Without values the items have none.
func (s *State) List(ctx context.Context, caller components.Caller, prefix string, pageSize int, pageToken string, values bool) (
	entries []Entry, next string, err error,
) {
	call, err := s.component.Begin(ctx, "list")
	if err != nil {
		return nil, "", err
	}
	defer call.End(&err)
	limit, after, err := components.Page(pageSize, pageToken)
	if err != nil {
		return nil, "", err
	}
	if err := components.CheckPrefix(prefix); err != nil {
		return nil, "", err
	}
	whole, err := caller.StoredKey("k")
	if err != nil {
		return nil, "", err
	}
	own := whole[:len(whole)-1]
	if after != "" {
		after = own + after
	}
	entries, more, err := call.Driver.List(ctx, own+prefix, after, limit, values)
	if err != nil {
		return nil, "", err
	}
	for i := range entries {
		entries[i].Key = entries[i].Key[len(own):]
	}
	if more && len(entries) > 0 {
		next = components.PageToken(entries[len(entries)-1].Key)
	}
	return entries, next, nil
}
