package configtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/config"
)

// edited passes what a watch reports through edit.
func edited(edit func(changes []config.Change, initial bool) ([]config.Change, bool)) func(config.Driver) config.Driver {
	return func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, sel config.Selection, report reporter) error {
			return d.Watch(ctx, sel, func(changes []config.Change, initial bool) error { return report(edit(changes, initial)) })
		}}
	}
}

func without(drop func(config.Change) bool) func(config.Driver) config.Driver {
	return edited(func(changes []config.Change, initial bool) ([]config.Change, bool) {
		return slices.DeleteFunc(changes, drop), initial
	})
}

var everything = config.Selection{Prefixes: []string{""}}

var watchMutants = []componenttest.Mutant[config.Driver]{
	{Name: "a watch does not begin with what is there", Break: edited(func(changes []config.Change, initial bool) ([]config.Change, bool) {
		if initial {
			changes = nil
		}
		return changes, initial
	})},
	{Name: "a watch never says initial", Break: edited(func(changes []config.Change, _ bool) ([]config.Change, bool) { return changes, false })},
	{Name: "a watch does not tell of deletions", Break: without(func(c config.Change) bool { return c.Deleted })},
	{Name: "a watch does not tell of what is new", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, sel config.Selection, report reporter) error {
			known := map[string]bool{}
			return d.Watch(ctx, sel, func(changes []config.Change, initial bool) error {
				changes = slices.DeleteFunc(changes, func(c config.Change) bool { return !initial && !known[c.Key] })
				for _, c := range changes {
					known[c.Key] = true
				}
				return report(changes, initial)
			})
		}}
	}},
	{Name: "a watch tells of everything", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, _ config.Selection, report reporter) error {
			return d.Watch(ctx, everything, report)
		}}
	}},
	{Name: "a watch repeats keys that two selectors name", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, sel config.Selection, report reporter) error {
			return d.Watch(ctx, sel, func(changes []config.Change, initial bool) error {
				for _, c := range changes {
					if slices.Contains(sel.Keys, c.Key) && len(sel.Prefixes) > 0 && strings.HasPrefix(c.Key, sel.Prefixes[0]) {
						changes = append(changes, c)
					}
				}
				return report(changes, initial)
			})
		}}
	}},
	{Name: "a watch drops what comes fast", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, sel config.Selection, report reporter) error {
			var last time.Time
			return d.Watch(ctx, sel, func(changes []config.Change, initial bool) error {
				if time.Since(last) < 100*time.Millisecond {
					return nil
				}
				last = time.Now()
				return report(changes, initial)
			})
		}}
	}},
	{Name: "a watch tells of old values again", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, sel config.Selection, report reporter) error {
			var before []config.Change
			return d.Watch(ctx, sel, func(changes []config.Change, initial bool) error {
				err := report(changes, initial)
				if err == nil && before != nil {
					err = report(before, false)
				}
				before = changes
				if err == nil && !initial {
					err = report(changes, false)
				}
				return err
			})
		}}
	}},
	{Name: "a watch tells other versions than get", Break: edited(func(changes []config.Change, initial bool) ([]config.Change, bool) {
		for i := range changes {
			changes[i].Item.Version = digest(changes[i].Item.Value)
		}
		return changes, initial
	})},
	{Name: "a watch does not hear what report answers", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, sel config.Selection, report reporter) error {
			return d.Watch(ctx, sel, func(changes []config.Change, initial bool) error {
				_ = report(changes, initial)
				return nil
			})
		}}
	}},
	{Name: "a watch does not end", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, sel config.Selection, report reporter) error {
			return d.Watch(context.WithoutCancel(ctx), sel, report)
		}}
	}},
	{Name: "a slow reader holds up the others", Break: func(d config.Driver) config.Driver {
		var mu sync.Mutex
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, sel config.Selection, report reporter) error {
			return d.Watch(ctx, sel, func(changes []config.Change, initial bool) error {
				mu.Lock()
				defer mu.Unlock()
				return report(changes, initial)
			})
		}}
	}},
	{Name: "few can watch", Break: func(d config.Driver) config.Driver {
		var mu sync.Mutex
		watching := 0
		return &hooks{Full: d.(Full), watch: func(ctx context.Context, sel config.Selection, report reporter) error {
			mu.Lock()
			watching++
			n := watching
			mu.Unlock()
			if n > 20 {
				return fmt.Errorf("%w: too many watches", components.ErrExhausted)
			}
			return d.Watch(ctx, sel, report)
		}}
	}},
	{Name: "close leaves the watches", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), close: func(context.Context) error { return nil }}
	}},
	{Name: "close fails the second time", Break: func(d config.Driver) config.Driver {
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
