package registrytest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// registering passes each record through edit.
func registering(edit func(r registry.Record) registry.Record) func(registry.Driver) registry.Driver {
	return func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), register: func(ctx context.Context, r registry.Record) error { return d.Register(ctx, edit(r)) }}
	}
}

var recordMutants = []componenttest.Mutant[registry.Driver]{
	{Name: "register does nothing", Break: func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), register: func(context.Context, registry.Record) error { return nil }}
	}},
	{Name: "register does not replace", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		known := map[string]bool{}
		return &hooks{Full: d.(Full), register: func(ctx context.Context, r registry.Record) error {
			mu.Lock()
			defer mu.Unlock()
			if known[r.Address] {
				return nil
			}
			known[r.Address] = true
			return d.Register(ctx, r)
		}}
	}},
	{Name: "register refuses what is there", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		known := map[string]bool{}
		return &hooks{Full: d.(Full), register: func(ctx context.Context, r registry.Record) error {
			mu.Lock()
			defer mu.Unlock()
			if known[r.Address] {
				return components.ErrExists
			}
			known[r.Address] = true
			return d.Register(ctx, r)
		}}
	}},
	{Name: "register merges metadata", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		merged := map[string]map[string]string{}
		return registering(func(r registry.Record) registry.Record {
			mu.Lock()
			defer mu.Unlock()
			if merged[r.Address] == nil {
				merged[r.Address] = map[string]string{}
			}
			maps.Copy(merged[r.Address], r.Metadata)
			r.Metadata = maps.Clone(merged[r.Address])
			return r
		})(d)
	}},
	{Name: "weight 0 is 1", Break: registering(func(r registry.Record) registry.Record {
		r.Weight = max(r.Weight, 1)
		return r
	})},
	{Name: "metadata without a value are lost", Break: registering(func(r registry.Record) registry.Record {
		r.Metadata = maps.Clone(r.Metadata)
		maps.DeleteFunc(r.Metadata, func(_, v string) bool { return v == "" })
		return r
	})},
	{Name: "metadata are cut at a comma", Break: registering(func(r registry.Record) registry.Record {
		r.Metadata = maps.Clone(r.Metadata)
		for k, v := range r.Metadata {
			r.Metadata[k], _, _ = strings.Cut(v, ",")
		}
		return r
	})},
	{Name: "IPv6 loses its brackets", Break: registering(func(r registry.Record) registry.Record {
		r.Address = strings.NewReplacer("[", "", "]", "").Replace(r.Address)
		return r
	})},
	{Name: "metadata are kept as lent", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		lent := map[string]map[string]string{}
		return &hooks{Full: d.(Full),
			register: func(ctx context.Context, r registry.Record) error {
				mu.Lock()
				defer mu.Unlock()
				lent[r.Address] = r.Metadata
				return d.Register(ctx, r)
			},
			watch: func(ctx context.Context, s registry.Service, report reporter) error {
				return d.Watch(ctx, s, func(all []registry.Record) error {
					mu.Lock()
					for i, r := range all {
						if lent[r.Address] != nil {
							all[i].Metadata = lent[r.Address]
						}
					}
					mu.Unlock()
					return report(all)
				})
			}}
	}},
	{Name: "registrations at once get lost", Break: func(d registry.Driver) registry.Driver {
		var busy sync.Mutex
		return &hooks{Full: d.(Full), register: func(ctx context.Context, r registry.Record) error {
			if !busy.TryLock() {
				return nil
			}
			defer busy.Unlock()
			time.Sleep(time.Millisecond)
			return d.Register(ctx, r)
		}}
	}},
	{Name: "deregister does nothing", Break: func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), deregister: func(context.Context, registry.Service, string) error { return nil }}
	}},
	{Name: "deregister wants the record there", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		there := map[string]bool{}
		return &hooks{Full: d.(Full),
			register: func(ctx context.Context, r registry.Record) error {
				mu.Lock()
				defer mu.Unlock()
				there[r.Address] = true
				return d.Register(ctx, r)
			},
			deregister: func(ctx context.Context, s registry.Service, address string) error {
				mu.Lock()
				defer mu.Unlock()
				if !there[address] {
					return components.ErrNotFound
				}
				delete(there, address)
				return d.Deregister(ctx, s, address)
			}}
	}},
	{Name: "a record that is there is not registered again by another", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		mine := map[string]bool{}
		return &hooks{Full: d.(Full), register: func(ctx context.Context, r registry.Record) error {
			mu.Lock()
			defer mu.Unlock()
			theirs := false
			d.Watch(ctx, r.Service, func(all []registry.Record) error {
				theirs = !mine[r.Address] && slices.ContainsFunc(all, func(o registry.Record) bool { return o.Address == r.Address })
				return context.Canceled
			})
			if theirs {
				return nil
			}
			mine[r.Address] = true
			return d.Register(ctx, r)
		}}
	}},
	{Name: "close leaves the records", Break: func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), close: func(context.Context) error { return nil }}
	}},
	{Name: "close fails the second time", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		closed := false
		return &hooks{Full: d.(Full), close: func(ctx context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if closed {
				return errors.New("closed already")
			}
			closed = true
			return d.(Full).Close(ctx)
		}}
	}},
}
