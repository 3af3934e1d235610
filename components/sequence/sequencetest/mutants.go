package sequencetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/sequence"
)

// Full is what Mutants break: a driver that can be closed.
type Full interface {
	sequence.Driver
	components.Closer
}

type mutant = componenttest.Mutant[sequence.Driver]

// hooks takes the place of some calls of a driver; those that are nil go through. Unique is Next of the driver itself.
type hooks struct {
	Full
	next   func(ctx context.Context, key string, n int64) (int64, error)
	unique func(ctx context.Context, key string, n int64) (int64, error)
	close  func(ctx context.Context) error
}

func (h *hooks) Next(ctx context.Context, key string, n int64) (int64, error) {
	if h.next != nil {
		return h.next(ctx, key, n)
	}
	return h.Full.Next(ctx, key, n)
}

func (h *hooks) Unique(ctx context.Context, key string, n int64) (int64, error) {
	if h.unique != nil {
		return h.unique(ctx, key, n)
	}
	return h.Full.Next(ctx, key, n)
}

func (h *hooks) Close(ctx context.Context) error {
	if h.close != nil {
		return h.close(ctx)
	}
	return h.Full.Close(ctx)
}

func hooked(name string, change func(h *hooks)) mutant {
	return mutant{Name: name, Break: func(d sequence.Driver) sequence.Driver {
		h := &hooks{Full: d.(Full)}
		change(h)
		return h
	}}
}

// both is a mutant whose two orders are broken in the same way.
func both(name string, change func(h *hooks, ctx context.Context, key string, n int64) (int64, error)) mutant {
	return hooked(name, func(h *hooks) {
		h.next = func(ctx context.Context, key string, n int64) (int64, error) { return change(h, ctx, key, n) }
		h.unique = h.next
	})
}

// keyed is a mutant that changes keys.
func keyed(name string, change func(key string) string) mutant {
	return both(name, func(h *hooks, ctx context.Context, key string, n int64) (int64, error) {
		return h.Full.Next(ctx, change(key), n)
	})
}

// everybody's last numbers by key, of all drivers of the process.
var everybody sync.Map

// Mutants are faults that drivers may have, each of which Run finds. What they break must be a Full driver.
func Mutants() []mutant {
	return []mutant{
		keyed("keys fold case", strings.ToLower),
		keyed("long keys cut", func(key string) string { return key[:min(len(key), 250)] }),
		keyed("keys of another app", func(key string) string { return strings.Replace(key, "-2/", "/", 1) }),
		keyed("one sequence for all", func(string) string { return "all" }),
		both("begins at 0", func(h *hooks, ctx context.Context, key string, n int64) (int64, error) {
			first, err := h.Full.Next(ctx, key, n)
			return first - 1, err
		}),
		both("a row is not put aside whole", func(h *hooks, ctx context.Context, key string, n int64) (int64, error) {
			return h.Full.Next(ctx, key, max(n-1, 1))
		}),
		both("only one number is put aside", func(h *hooks, ctx context.Context, key string, _ int64) (int64, error) {
			return h.Full.Next(ctx, key, 1)
		}),
		both("the last is answered as the first", func(h *hooks, ctx context.Context, key string, n int64) (int64, error) {
			first, err := h.Full.Next(ctx, key, n)
			return first + n/1000, err
		}),
		both("goes down", func(h *hooks, ctx context.Context, key string, n int64) (int64, error) {
			first, err := h.Full.Next(ctx, key, n)
			return 1<<40 - first - n, err
		}),
		hooked("begins anew when opened", func(h *hooks) {
			began := fmt.Sprint(time.Now().UnixNano())
			h.next = func(ctx context.Context, key string, n int64) (int64, error) {
				return h.Full.Next(ctx, key+began, n)
			}
			h.unique = h.next
		}),
		hooked("orders that do not know of each other", func(h *hooks) {
			h.unique = func(ctx context.Context, key string, n int64) (int64, error) {
				return h.Full.Next(ctx, key+" unique", n)
			}
		}),
		hooked("rows of its own for each driver", func(h *hooks) {
			// Numbers are unique, but what one driver has put aside it gives when others have given greater ones.
			var mu sync.Mutex
			had := map[string]*[2]int64{}
			h.next = func(ctx context.Context, key string, n int64) (int64, error) {
				mu.Lock()
				defer mu.Unlock()
				r := had[key]
				if r == nil || r[1]-r[0] < n {
					first, err := h.Full.Next(ctx, key, n+1000)
					if err != nil {
						return 0, err
					}
					r = &[2]int64{first, first + n + 1000}
					had[key] = r
				}
				r[0] += n
				return r[0] - n, nil
			}
		}),
		both("not in one step", func(h *hooks, ctx context.Context, key string, n int64) (int64, error) {
			if _, err := h.Full.Next(ctx, key, n); err != nil {
				return 0, err
			}
			counter, _ := everybody.LoadOrStore(key, new(atomic.Int64))
			last := counter.(*atomic.Int64)
			from := last.Load()
			time.Sleep(50 * time.Microsecond)
			last.Store(from + n)
			return from + 1, nil
		}),
		hooked("second close fails", func(h *hooks) {
			var once sync.Once
			h.close = func(ctx context.Context) error {
				err := errors.New("closed already")
				once.Do(func() { err = h.Full.Close(ctx) })
				return err
			}
		}),
	}
}
