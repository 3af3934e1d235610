package registrytest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

var watchMutants = []componenttest.Mutant[registry.Driver]{
	{Name: "a watch does not say that nothing is there", Break: func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, s registry.Service, report reporter) error {
			return d.Watch(ctx, s, func(all []registry.Record) error {
				if len(all) == 0 {
					return nil
				}
				return report(all)
			})
		}}
	}},
	{Name: "a watch begins with the first change", Break: func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, s registry.Service, report reporter) error {
			begun := false
			return d.Watch(ctx, s, func(all []registry.Record) error {
				if !begun {
					begun = true
					return nil
				}
				return report(all)
			})
		}}
	}},
	{Name: "a watch reports once", Break: func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, s registry.Service, report reporter) error {
			begun := false
			return d.Watch(ctx, s, func(all []registry.Record) error {
				if begun {
					return nil
				}
				begun = true
				return report(all)
			})
		}}
	}},
	{Name: "a watch reports what is new alone", Break: func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, s registry.Service, report reporter) error {
			known := map[string]bool{}
			return d.Watch(ctx, s, func(all []registry.Record) error {
				all = slices.DeleteFunc(all, func(r registry.Record) bool { return known[fmt.Sprint(r)] })
				for _, r := range all {
					known[fmt.Sprint(r)] = true
				}
				return report(all)
			})
		}}
	}},
	{Name: "a watch shows what is its own alone", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		own := map[string]bool{}
		return &hooks{Full: d.(Full),
			register: func(ctx context.Context, r registry.Record) error {
				mu.Lock()
				own[r.Address] = true
				mu.Unlock()
				return d.Register(ctx, r)
			},
			watch: func(ctx context.Context, s registry.Service, report reporter) error {
				return d.Watch(ctx, s, func(all []registry.Record) error {
					mu.Lock()
					all = slices.DeleteFunc(all, func(r registry.Record) bool { return !own[r.Address] })
					mu.Unlock()
					return report(all)
				})
			}}
	}},
	{Name: "a watch drops what comes fast", Break: func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, s registry.Service, report reporter) error {
			var last time.Time
			return d.Watch(ctx, s, func(all []registry.Record) error {
				if time.Since(last) < 50*time.Millisecond {
					return nil
				}
				last = time.Now()
				return report(all)
			})
		}}
	}},
	{Name: "a watch shares what it reports", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		shared := map[string]map[string]string{}
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, s registry.Service, report reporter) error {
			return d.Watch(ctx, s, func(all []registry.Record) error {
				mu.Lock()
				for i, r := range all {
					if shared[r.Address] == nil {
						shared[r.Address] = r.Metadata
					}
					all[i].Metadata = shared[r.Address]
				}
				mu.Unlock()
				return report(all)
			})
		}}
	}},
	{Name: "a watch does not hear what report answers", Break: func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, s registry.Service, report reporter) error {
			return d.Watch(ctx, s, func(all []registry.Record) error {
				_ = report(all)
				return nil
			})
		}}
	}},
	{Name: "a watch does not end", Break: func(d registry.Driver) registry.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, s registry.Service, report reporter) error {
			return d.Watch(context.WithoutCancel(ctx), s, report)
		}}
	}},
	{Name: "a slow reader holds up the others", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, s registry.Service, report reporter) error {
			return d.Watch(ctx, s, func(all []registry.Record) error {
				mu.Lock()
				defer mu.Unlock()
				return report(all)
			})
		}}
	}},
	{Name: "few can watch", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		watching := 0
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, s registry.Service, report reporter) error {
			mu.Lock()
			watching++
			n := watching
			mu.Unlock()
			if n > 25 {
				return fmt.Errorf("%w: too many watches", components.ErrExhausted)
			}
			return d.Watch(ctx, s, report)
		}}
	}},
	{Name: "a watch reports again when another service changes", Break: func(d registry.Driver) registry.Driver {
		var mu sync.Mutex
		again := map[registry.Service]func(){}
		return &hooks{Full: d.(Full),
			register: func(ctx context.Context, r registry.Record) error {
				mu.Lock()
				for s, report := range again {
					if s != r.Service {
						report()
					}
				}
				mu.Unlock()
				return d.Register(ctx, r)
			},
			watch: func(ctx context.Context, s registry.Service, report reporter) error {
				var busy sync.Mutex
				one := func(all []registry.Record) error {
					busy.Lock()
					defer busy.Unlock()
					return report(slices.Clone(all))
				}
				return d.Watch(ctx, s, func(all []registry.Record) error {
					mu.Lock()
					again[s] = func() { _ = one(all) }
					mu.Unlock()
					return one(all)
				})
			}}
	}},
}
