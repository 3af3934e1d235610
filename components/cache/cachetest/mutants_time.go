package cachetest

import (
	"context"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/components/cache"
)

var timeMutants = []mutant{
	written("ttl ignored", func(item *cache.Item, _ *cache.SetOptions) { item.TTL = 0 }),
	written("ttl in whole seconds", func(item *cache.Item, _ *cache.SetOptions) {
		item.TTL = (item.TTL + time.Second - 1).Truncate(time.Second)
	}),
	written("expired served", func(item *cache.Item, _ *cache.SetOptions) {
		if item.TTL > 0 {
			item.TTL += 20 * time.Millisecond
		}
	}),
	written("expires early", func(item *cache.Item, _ *cache.SetOptions) { item.TTL -= item.TTL / 4 }),
	read("left not told", func(item *cache.Item, _ *error) { item.TTL = 0 }),
	read("left as it was set", func(item *cache.Item, _ *error) {
		item.TTL = (item.TTL + time.Second - 1).Truncate(time.Second)
	}),
	hooked("set keeps the old ttl", func(h *hooks) {
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			if old, err := h.Full.Get(ctx, key); err == nil && old.TTL > 0 {
				item.TTL = old.TTL
			}
			return h.Full.Set(ctx, key, item, opts)
		}
	}),
	hooked("touch does nothing", func(h *hooks) {
		h.touch = func(ctx context.Context, key string, _ time.Duration) error {
			_, err := h.Full.Get(ctx, key)
			return err
		}
	}),
	hooked("touch cannot take the ttl away", func(h *hooks) {
		h.touch = func(ctx context.Context, key string, ttl time.Duration) error {
			if ttl == 0 {
				ttl = time.Hour
			}
			return h.Full.Touch(ctx, key, ttl)
		}
	}),
	hooked("touch of an absent key is no error", func(h *hooks) {
		h.touch = func(ctx context.Context, key string, ttl time.Duration) error {
			_ = h.Full.Touch(ctx, key, ttl)
			return nil
		}
	}),
	hooked("touch writes", func(h *hooks) {
		h.touch = func(ctx context.Context, key string, ttl time.Duration) error {
			item, err := h.Full.Get(ctx, key)
			if err != nil {
				return err
			}
			item.TTL = ttl
			_, err = h.Full.Set(ctx, key, item, cache.SetOptions{})
			return err
		}
	}),
}

// sumAndSet is an increment in more than one step.
func sumAndSet(ctx context.Context, h *hooks, key string, delta int64, ttl time.Duration) (int64, error) {
	item, err := h.Full.Get(ctx, key)
	if err != nil {
		return h.Full.Increment(ctx, key, delta, ttl)
	}
	n, err := strconv.ParseInt(string(item.Value), 10, 64)
	if err != nil {
		return h.Full.Increment(ctx, key, delta, ttl)
	}
	yield()
	item.Value = strconv.AppendInt(nil, n+delta, 10)
	_, err = h.Full.Set(ctx, key, item, cache.SetOptions{})
	return n + delta, err
}

// beforehand is a mutant that does something to the key before it increments.
func beforehand(name string, do func(ctx context.Context, h *hooks, key string, item cache.Item, ttl *time.Duration)) mutant {
	return hooked(name, func(h *hooks) {
		h.increment = func(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
			item, _ := h.Full.Get(ctx, key)
			do(ctx, h, key, item, &ttl)
			return h.Full.Increment(ctx, key, delta, ttl)
		}
	})
}

var countMutants = []mutant{
	hooked("increment wraps", func(h *hooks) {
		h.increment = func(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
			sum, err := h.Full.Increment(ctx, key, delta, ttl)
			if err != nil {
				return sumAndSet(ctx, h, key, delta, ttl)
			}
			return sum, nil
		}
	}),
	hooked("increment not atomic", func(h *hooks) {
		h.increment = func(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
			item, _ := h.Full.Get(ctx, key)
			n, _ := strconv.ParseInt(string(item.Value), 10, 64)
			if item.Version == "" || delta != 1 || n > 1<<20 || n < 0 || strconv.FormatInt(n, 10) != string(item.Value) {
				return h.Full.Increment(ctx, key, delta, ttl)
			}
			return sumAndSet(ctx, h, key, delta, ttl)
		}
	}),
	beforehand("increment counts text as 0", func(ctx context.Context, h *hooks, key string, item cache.Item, _ *time.Duration) {
		if _, err := strconv.ParseInt(string(item.Value), 10, 64); err != nil && item.Version != "" {
			item.Value = []byte("0")
			_, _ = h.Full.Set(ctx, key, item, cache.SetOptions{})
		}
	}),
	beforehand("increment forgives spaces and zeros", func(ctx context.Context, h *hooks, key string, item cache.Item, _ *time.Duration) {
		if n, err := strconv.ParseInt(string(item.Value), 10, 64); err == nil && strconv.FormatInt(n, 10) != string(item.Value) {
			item.Value = strconv.AppendInt(nil, n, 10)
			_, _ = h.Full.Set(ctx, key, item, cache.SetOptions{})
		}
	}),
	beforehand("increment creates without ttl", func(_ context.Context, _ *hooks, _ string, _ cache.Item, ttl *time.Duration) { *ttl = 0 }),
	beforehand("increment renews the ttl", func(ctx context.Context, h *hooks, key string, _ cache.Item, ttl *time.Duration) {
		_ = h.Full.Touch(ctx, key, *ttl)
	}),
	beforehand("increment drops the content type", func(ctx context.Context, h *hooks, key string, item cache.Item, _ *time.Duration) {
		if item.ContentType != "" {
			item.ContentType = ""
			_, _ = h.Full.Set(ctx, key, item, cache.SetOptions{})
		}
	}),
}
