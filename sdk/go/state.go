package client

import (
	"context"
	"iter"

	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
)

// State is a state component: what it has acknowledged it keeps. Keys are the application's own.
type State struct {
	component string
	api       statev1.StateClient
}

// State is the state component of that name; empty means "default". Whether there is one shows at the first call (ErrNoComponent).
func (c *Client) State(name string) *State { return &State{name, statev1.NewStateClient(c.API())} }

// Fence makes a write depend on a lock: once the component has seen a newer token of it, the write fails with ErrPrecondition,
// reason STALE_FENCE.
type Fence struct {
	Component string // of the lock; empty means "default"
	Name      string
	Token     uint64 // what the lock gave
}

// WriteOption is what a write may depend on: IfVersion, IfAbsent, a Fence.
type WriteOption interface {
	write(*writeOptions)
}

type writeOptions struct {
	when  []Condition
	fence *statev1.Fence
}

func (v IfVersion) write(o *writeOptions) { o.when = append(o.when, v) }
func (a ifAbsent) write(o *writeOptions)  { o.when = append(o.when, a) }
func (f Fence) write(o *writeOptions)     { o.fence = f.proto() }

func (f Fence) proto() *statev1.Fence {
	return &statev1.Fence{Component: f.Component, Name: f.Name, Token: f.Token}
}

func written(all []WriteOption) (condition, *statev1.Fence, error) {
	var o writeOptions
	for _, one := range all {
		if one == nil {
			return condition{}, nil, invalid("an option that is nil")
		}
		one.write(&o)
	}
	when, err := only(o.when)
	return when, o.fence, err
}

// Get fails with ErrNotFound for a key that is absent or has expired.
func (s *State) Get(ctx context.Context, key string) (Item, error) {
	r, err := s.api.Get(ctx, &statev1.GetRequest{Component: s.component, Key: key})
	if err != nil {
		return Item{}, err
	}
	return stateItem(r), nil
}

func stateItem(r *statev1.GetResponse) Item {
	return Item{r.GetValue(), r.GetContentType(), r.GetTtl().AsDuration(), r.GetVersion(), r.GetMetadata()}
}

// Set stores an item and answers its version. What it depends on is looked at in one step with the write.
func (s *State) Set(ctx context.Context, key string, item Item, on ...WriteOption) (version string, err error) {
	when, fence, err := written(on)
	if err != nil {
		return "", err
	}
	r, err := s.api.Set(ctx, &statev1.SetRequest{Component: s.component, Key: key, Value: item.Value, ContentType: item.ContentType,
		Ttl: ttl(item.TTL), Metadata: item.Metadata, Condition: when.state(), Fence: fence})
	return r.GetVersion(), err
}

func (c condition) state() *statev1.Condition {
	switch {
	case c.absent:
		return &statev1.Condition{When: &statev1.Condition_IfAbsent{IfAbsent: true}}
	case c.version != "":
		return &statev1.Condition{When: &statev1.Condition_IfVersion{IfVersion: c.version}}
	}
	return nil
}

// Delete removes a key; that it was absent is no error unless a version is asked for.
func (s *State) Delete(ctx context.Context, key string, on ...WriteOption) error {
	when, fence, err := written(on)
	if err != nil {
		return err
	}
	if when.absent {
		return invalid("a delete of what is absent")
	}
	_, err = s.api.Delete(ctx, &statev1.DeleteRequest{Component: s.component, Key: key, IfVersion: when.version, Fence: fence})
	return err
}

// GetMany answers one result for each of up to 1000 keys, in their order. It fails only as a whole.
func (s *State) GetMany(ctx context.Context, keys ...string) ([]GetResult, error) {
	r, err := s.api.GetMany(ctx, &statev1.GetManyRequest{Component: s.component, Keys: keys})
	if err != nil {
		return nil, err
	}
	results := make([]GetResult, 0, len(keys))
	for _, one := range r.GetResults() {
		result := GetResult{Key: one.GetKey(), Err: failure(one.GetError())}
		if result.Err == nil {
			result.Item = stateItem(one.GetItem())
		}
		results = append(results, result)
	}
	return results, nil
}

// List goes through the keys that begin with prefix, in the order of their bytes, with their items but for the values. It asks for
// a page when it comes to it. After an error, which has no entry, it ends.
func (s *State) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return s.list(ctx, prefix, false)
}

// ListValues is List with the values.
func (s *State) ListValues(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return s.list(ctx, prefix, true)
}

func (s *State) list(ctx context.Context, prefix string, values bool) iter.Seq2[Entry, error] {
	return pages(func(page string) ([]Entry, string, error) {
		r, err := s.api.List(ctx, &statev1.ListRequest{Component: s.component, Prefix: prefix, PageToken: page, Values: values})
		if err != nil {
			return nil, "", err
		}
		entries := make([]Entry, 0, len(r.GetEntries()))
		for _, e := range r.GetEntries() {
			entries = append(entries, Entry{Key: e.GetKey(), Item: stateItem(e.GetItem())})
		}
		return entries, r.GetNextPageToken(), nil
	})
}
