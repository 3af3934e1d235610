package cachetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

// renamed is a mutant that gives out versions of its own making. name is called for each write with the key, the value and
// how often that key has been written; a delete forgets how often if forget is set.
func renamed(name string, forget bool, call func(key string, value []byte, writes int) string) mutant {
	type state struct {
		real, ours string
		writes     int
	}
	return hooked(name, func(h *hooks) {
		var mu sync.Mutex
		states := map[string]*state{}
		h.get = func(ctx context.Context, key string) (cache.Item, error) {
			mu.Lock()
			defer mu.Unlock()
			item, err := h.Full.Get(ctx, key)
			if s := states[key]; s != nil && s.real == item.Version {
				item.Version = s.ours
			}
			return item, err
		}
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			s := states[key]
			if s == nil {
				s = &state{}
			}
			if opts.IfVersion != "" && opts.IfVersion == s.ours {
				opts.IfVersion = s.real
			}
			real, err := h.Full.Set(ctx, key, item, opts)
			if err != nil {
				return "", err
			}
			s.writes++
			s.real, s.ours = real, call(key, item.Value, s.writes)
			states[key] = s
			return s.ours, nil
		}
		h.del = func(ctx context.Context, key string, opts cache.DeleteOptions) error {
			mu.Lock()
			defer mu.Unlock()
			if s := states[key]; s != nil && opts.IfVersion == s.ours {
				opts.IfVersion = s.real
			}
			err := h.Full.Delete(ctx, key, opts)
			if err == nil && forget {
				delete(states, key)
			}
			return err
		}
	})
}

var versionMutants = []mutant{
	renamed("version constant", false, func(string, []byte, int) string { return "1" }),
	renamed("version reused after delete", true, func(key string, _ []byte, writes int) string { return key + strconv.Itoa(writes) }),
	renamed("version reused after restart", false, func(key string, _ []byte, writes int) string { return key + strconv.Itoa(writes) }),
	renamed("version is a hash of the value", false, func(_ string, value []byte, _ int) string {
		sum := sha256.Sum256(value)
		return hex.EncodeToString(sum[:])
	}),
	hooked("set answers no version", func(h *hooks) {
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			_, err := h.Full.Set(ctx, key, item, opts)
			return "", err
		}
	}),
}

// inSteps is a mutant that checks the condition first and writes then.
func inSteps(name string, applies func(cache.Condition) bool, failed func(cache.Condition, cache.Item, error) error) mutant {
	return hooked(name, func(h *hooks) {
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			if applies(opts.Condition) {
				old, err := h.Full.Get(ctx, key)
				if err := failed(opts.Condition, old, err); err != nil {
					return "", err
				}
				yield()
				opts = cache.SetOptions{}
			}
			return h.Full.Set(ctx, key, item, opts)
		}
	})
}

var conditionMutants = []mutant{
	inSteps("compare and swap not atomic", func(c cache.Condition) bool { return c.IfVersion != "" },
		func(c cache.Condition, old cache.Item, err error) error {
			if err != nil || old.Version != c.IfVersion {
				return components.ErrConflict
			}
			return nil
		}),
	inSteps("if absent not atomic", func(c cache.Condition) bool { return c.IfAbsent },
		func(_ cache.Condition, _ cache.Item, err error) error {
			if err == nil {
				return components.ErrExists
			}
			return nil
		}),
	written("if absent overwrites", func(_ *cache.Item, opts *cache.SetOptions) { opts.IfAbsent = false }),
	written("set ignores version", func(_ *cache.Item, opts *cache.SetOptions) { opts.IfVersion = "" }),
	hooked("if version creates", func(h *hooks) {
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			if _, err := h.Full.Get(ctx, key); errors.Is(err, components.ErrNotFound) {
				opts.IfVersion = ""
			}
			return h.Full.Set(ctx, key, item, opts)
		}
	}),
	hooked("failed condition drops the item", func(h *hooks) {
		h.set = func(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
			version, err := h.Full.Set(ctx, key, item, opts)
			if err != nil {
				_ = h.Full.Delete(ctx, key, cache.DeleteOptions{})
			}
			return version, err
		}
	}),
	hooked("delete ignores version", func(h *hooks) {
		h.del = func(ctx context.Context, key string, _ cache.DeleteOptions) error {
			return h.Full.Delete(ctx, key, cache.DeleteOptions{})
		}
	}),
	hooked("delete if version of an absent key is no error", func(h *hooks) {
		h.del = func(ctx context.Context, key string, opts cache.DeleteOptions) error {
			if _, err := h.Full.Get(ctx, key); err != nil {
				return nil
			}
			return h.Full.Delete(ctx, key, opts)
		}
	}),
}

// laterDriver answers gets from another goroutine, soundly as far as its hook is.
type laterDriver struct {
	Full
	got func(item *cache.Item, err *error)
}

func (d *laterDriver) GetLater(ctx context.Context, key string, done func(cache.Item, error)) {
	go func() {
		item, err := d.Get(ctx, key)
		d.got(&item, &err)
		done(item, err)
	}()
}

func afterwards(name string, got func(item *cache.Item, err *error)) mutant {
	return mutant{Name: name, Break: func(sound cache.Driver) cache.Driver { return &laterDriver{sound.(Full), got} }}
}

var laterMutants = []mutant{
	afterwards("later hides errors", func(_ *cache.Item, err *error) { *err = nil }),
	afterwards("later forgets the version", func(item *cache.Item, _ *error) { item.Version = "" }),
	afterwards("later forgets the time to live", func(item *cache.Item, _ *error) { item.TTL = 0 }),
}

// manyDriver answers calls for many keys, soundly as far as its hooks are.
type manyDriver struct {
	Full
	got  func([]cache.Result) []cache.Result
	done func([]cache.SetResult) []cache.SetResult
	keys func([]string) []string
	sets func([]cache.Entry) []cache.Entry
}

func (d *manyDriver) GetMany(ctx context.Context, keys []string) ([]cache.Result, error) {
	if d.keys != nil {
		keys = d.keys(keys)
	}
	results := make([]cache.Result, len(keys))
	for i, key := range keys {
		results[i].Item, results[i].Err = d.Get(ctx, key)
	}
	if d.got != nil {
		results = d.got(results)
	}
	return results, nil
}

func (d *manyDriver) SetMany(ctx context.Context, entries []cache.Entry) ([]cache.SetResult, error) {
	if d.sets != nil {
		entries = d.sets(entries)
	}
	results := make([]cache.SetResult, len(entries))
	for i, e := range entries {
		results[i].Version, results[i].Err = d.Set(ctx, e.Key, e.Item, cache.SetOptions{Condition: e.Condition})
	}
	if d.done != nil {
		results = d.done(results)
	}
	return results, nil
}

func inBulk(name string, change func(d *manyDriver)) mutant {
	return mutant{Name: name, Break: func(sound cache.Driver) cache.Driver {
		d := &manyDriver{Full: sound.(Full)}
		change(d)
		return d
	}}
}

var manyMutants = []mutant{
	inBulk("get many reversed", func(d *manyDriver) {
		d.got = func(r []cache.Result) []cache.Result { slices.Reverse(r); return r }
	}),
	inBulk("get many drops duplicates", func(d *manyDriver) { d.keys = slices.Compact[[]string] }),
	inBulk("get many sorts", func(d *manyDriver) {
		d.keys = func(keys []string) []string { return slices.Sorted(slices.Values(keys)) }
	}),
	inBulk("get many drops missing", func(d *manyDriver) {
		d.got = func(r []cache.Result) []cache.Result {
			return slices.DeleteFunc(r, func(r cache.Result) bool { return r.Err != nil })
		}
	}),
	inBulk("get many hides errors", func(d *manyDriver) {
		d.got = func(r []cache.Result) []cache.Result {
			for i := range r {
				r[i].Err = nil
			}
			return r
		}
	}),
	inBulk("set many ignores conditions", func(d *manyDriver) {
		d.sets = func(entries []cache.Entry) []cache.Entry {
			for i := range entries {
				entries[i].Condition = cache.Condition{}
			}
			return entries
		}
	}),
	inBulk("set many in no order", func(d *manyDriver) {
		d.sets = func(entries []cache.Entry) []cache.Entry { slices.Reverse(entries); return entries }
		d.done = func(r []cache.SetResult) []cache.SetResult { slices.Reverse(r); return r }
	}),
	inBulk("set many fails as one", func(d *manyDriver) {
		d.done = func(r []cache.SetResult) []cache.SetResult {
			for _, one := range r {
				if one.Err != nil {
					for i := range r {
						r[i] = cache.SetResult{Err: one.Err}
					}
				}
			}
			return r
		}
	}),
}
