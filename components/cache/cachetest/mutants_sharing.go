package cachetest

import (
	"context"
	"errors"
	"sync"

	"github.com/outrigger-mesh/outrigger/components/cache"
)

// kept is a mutant that has an item of its own beside each real one, for as long as the real one's version stays.
func kept(name string, swap func(real, kept *cache.Item), copyIn bool) mutant {
	return hooked(name, func(h *hooks) {
		var mu sync.Mutex
		items := map[string]*cache.Item{} // by version
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			version, err := h.Full.Set(ctx, key, item, opts)
			if err == nil && !copyIn {
				mu.Lock()
				defer mu.Unlock()
				items[version] = &item
			}
			return version, err
		}
		h.get = func(ctx context.Context, key string) (cache.Item, error) {
			item, err := h.Full.Get(ctx, key)
			if err != nil {
				return item, err
			}
			mu.Lock()
			defer mu.Unlock()
			if k := items[item.Version]; k != nil {
				swap(&item, k)
			} else {
				items[item.Version] = &item
			}
			return item, nil
		}
	})
}

func swapValue(real, kept *cache.Item)    { real.Value = kept.Value }
func swapMetadata(real, kept *cache.Item) { real.Metadata = kept.Metadata }

var sharingMutants = []mutant{
	kept("value aliased when set", swapValue, false),
	kept("metadata aliased when set", swapMetadata, false),
	kept("value aliased when got", swapValue, true),
	kept("metadata aliased when got", swapMetadata, true),
	hooked("set torn", func(h *hooks) {
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			value := item.Value
			if old, err := h.Full.Get(ctx, key); err == nil && opts == (cache.SetOptions{}) {
				item.Value = old.Value
				if _, err := h.Full.Set(ctx, key, item, opts); err != nil {
					return "", err
				}
				yield()
				item.Value = value
			}
			return h.Full.Set(ctx, key, item, opts)
		}
	}),
	hooked("second close fails", func(h *hooks) {
		var mu sync.Mutex
		var closed bool
		h.close = func(ctx context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if closed {
				return errors.New("closed already")
			}
			closed = true
			return h.Full.Close(ctx)
		}
	}),
}
