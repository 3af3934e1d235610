package cachetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	"github.com/outrigger-mesh/outrigger/components/cache/memory"
)

// least is a driver that offers nothing beyond what it must.
type least struct{ cache.Driver }

func (l least) Close(ctx context.Context) error { return l.Driver.(components.Closer).Close(ctx) }

// unconditional is one that cannot hold a condition either.
type unconditional struct{ least }

func (unconditional) Offers(cache.Feature) bool { return false }

// TestSoundDriversPass has what the mutants are made with, without the fault: they are not caught for how they are made. The
// drivers that offer little show that the suite asks no more of them.
func TestSoundDriversPass(t *testing.T) {
	var serial atomic.Int64
	for _, m := range []mutant{
		{Name: "least", Break: func(d cache.Driver) cache.Driver { return least{d} }},
		{Name: "unconditional", Break: func(d cache.Driver) cache.Driver { return unconditional{least{d}} }},
		hooked("hooked", func(*hooks) {}),
		written("written", func(*cache.Item, *cache.SetOptions) {}),
		read("read", func(*cache.Item, *error) {}),
		keyed("keyed", func(key string) string { return "prefix/" + key }),
		beforehand("beforehand", func(context.Context, *hooks, string, cache.Item, *time.Duration) {}),
		renamed("renamed", true, func(string, []byte, int) string { return fmt.Sprint("v", serial.Add(1)) }),
		inSteps("in steps", func(cache.Condition) bool { return false }, nil),
		afterwards("afterwards", func(*cache.Item, *error) {}),
		inBulk("in bulk", func(*manyDriver) {}),
		kept("kept", func(_, _ *cache.Item) {}, false),
	} {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			Suite{TTL: 25 * time.Millisecond, Open: func(t *testing.T) cache.Driver {
				d, err := memory.Open(t.Context(), components.Env{}, memory.Options{MaxBytes: 64 << 20, MaxItemBytes: 4 << 20})
				if err != nil {
					t.Fatal(err)
				}
				return m.Break(d)
			}}.Run(t)
		})
	}
}
