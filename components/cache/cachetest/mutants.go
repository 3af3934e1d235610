package cachetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
)

// Full is a driver that offers all of which there are mutants.
type Full interface {
	cache.Driver
	cache.Toucher
	cache.Incrementer
	components.Closer
}

// Mutants are faults that drivers may have, each of which Run finds. What they break must be a Full driver.
func Mutants() []componenttest.Mutant[cache.Driver] {
	return slices.Concat(valueMutants, timeMutants, versionMutants, conditionMutants, countMutants, manyMutants, laterMutants, sharingMutants)
}

// hooks takes the place of some calls of a driver; those that are nil go through.
type hooks struct {
	Full
	get       func(ctx context.Context, key string) (cache.Item, error)
	set       func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error)
	del       func(ctx context.Context, key string, opts cache.DeleteOptions) error
	touch     func(ctx context.Context, key string, ttl time.Duration) error
	increment func(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error)
	close     func(ctx context.Context) error
}

func (h *hooks) Get(ctx context.Context, key string) (cache.Item, error) {
	if h.get != nil {
		return h.get(ctx, key)
	}
	return h.Full.Get(ctx, key)
}

func (h *hooks) Set(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
	if h.set != nil {
		return h.set(ctx, key, item, opts)
	}
	return h.Full.Set(ctx, key, item, opts)
}

func (h *hooks) Delete(ctx context.Context, key string, opts cache.DeleteOptions) error {
	if h.del != nil {
		return h.del(ctx, key, opts)
	}
	return h.Full.Delete(ctx, key, opts)
}

func (h *hooks) Touch(ctx context.Context, key string, ttl time.Duration) error {
	if h.touch != nil {
		return h.touch(ctx, key, ttl)
	}
	return h.Full.Touch(ctx, key, ttl)
}

func (h *hooks) Increment(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
	if h.increment != nil {
		return h.increment(ctx, key, delta, ttl)
	}
	return h.Full.Increment(ctx, key, delta, ttl)
}

func (h *hooks) Close(ctx context.Context) error {
	if h.close != nil {
		return h.close(ctx)
	}
	return h.Full.Close(ctx)
}

type mutant = componenttest.Mutant[cache.Driver]

// hooked makes a mutant of what change does to the hooks before a sound driver.
func hooked(name string, change func(h *hooks)) mutant {
	return mutant{Name: name, Break: func(d cache.Driver) cache.Driver {
		h := &hooks{Full: d.(Full)}
		change(h)
		return h
	}}
}

// written is a mutant that changes what is set.
func written(name string, change func(item *cache.Item, opts *cache.SetOptions)) mutant {
	return hooked(name, func(h *hooks) {
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			change(&item, &opts)
			return h.Full.Set(ctx, key, item, opts)
		}
	})
}

// read is a mutant that changes what get answers.
func read(name string, change func(item *cache.Item, err *error)) mutant {
	return hooked(name, func(h *hooks) {
		h.get = func(ctx context.Context, key string) (cache.Item, error) {
			item, err := h.Full.Get(ctx, key)
			change(&item, &err)
			return item, err
		}
	})
}

// keyed is a mutant that changes keys.
func keyed(name string, change func(key string) string) mutant {
	return hooked(name, func(h *hooks) {
		h.get = func(ctx context.Context, key string) (cache.Item, error) { return h.Full.Get(ctx, change(key)) }
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			return h.Full.Set(ctx, change(key), item, opts)
		}
		h.del = func(ctx context.Context, key string, opts cache.DeleteOptions) error {
			return h.Full.Delete(ctx, change(key), opts)
		}
		h.touch = func(ctx context.Context, key string, ttl time.Duration) error {
			return h.Full.Touch(ctx, change(key), ttl)
		}
		h.increment = func(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
			return h.Full.Increment(ctx, change(key), delta, ttl)
		}
	})
}

var valueMutants = []mutant{
	written("metadata dropped", func(item *cache.Item, _ *cache.SetOptions) { item.Metadata = nil }),
	written("content type dropped", func(item *cache.Item, _ *cache.SetOptions) { item.ContentType = "" }),
	written("long value cut", func(item *cache.Item, _ *cache.SetOptions) { item.Value = item.Value[:min(len(item.Value), 64<<10)] }),
	written("value kept as text", func(item *cache.Item, _ *cache.SetOptions) {
		item.Value = []byte(strings.ToValidUTF8(string(item.Value), "?"))
	}),
	read("empty value read as missing", func(item *cache.Item, err *error) {
		if *err == nil && len(item.Value) == 0 {
			*err = components.ErrNotFound
		}
	}),
	read("missing read as empty", func(_ *cache.Item, err *error) {
		if errors.Is(*err, components.ErrNotFound) {
			*err = nil
		}
	}),
	keyed("keys fold case", strings.ToLower),
	keyed("long keys cut", func(key string) string { return key[:min(len(key), 250)] }),
	keyed("keys of another app", func(key string) string { return key[strings.LastIndex(key, "/")+1:] }),
	hooked("overwrite merges metadata", func(h *hooks) {
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			old, _ := h.Full.Get(ctx, key)
			for k, v := range item.Metadata {
				if old.Metadata == nil {
					old.Metadata = map[string]string{}
				}
				old.Metadata[k] = v
			}
			item.Metadata = old.Metadata
			return h.Full.Set(ctx, key, item, opts)
		}
	}),
	hooked("delete of an absent key fails", func(h *hooks) {
		h.del = func(ctx context.Context, key string, opts cache.DeleteOptions) error {
			if _, err := h.Full.Get(ctx, key); err != nil {
				return err
			}
			return h.Full.Delete(ctx, key, opts)
		}
	}),
	hooked("delete does nothing", func(h *hooks) {
		h.del = func(context.Context, string, cache.DeleteOptions) error { return nil }
	}),
}

// yield gives others the time to come in between.
func yield() { time.Sleep(100 * time.Microsecond) }
