package secrettest

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
	"github.com/outrigger-mesh/outrigger/components/secret"
)

// Mutants are faults that drivers may have, each of which Run finds.
func Mutants() []componenttest.Mutant[secret.Driver] {
	return slices.Concat(valueMutants, listMutants)
}

type (
	getter func(ctx context.Context, key string) (secret.Value, error)
	lister func(ctx context.Context, prefix, after string, limit int) ([]string, error)
	closer func() error
)

// hooks takes the place of some calls of a driver.
type hooks struct {
	get   getter
	list  lister
	close closer
}

func (h hooks) Get(ctx context.Context, key string) (secret.Value, error) { return h.get(ctx, key) }
func (h hooks) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	return h.list(ctx, prefix, after, limit)
}
func (h hooks) Close(context.Context) error { return h.close() }

// got passes what Get answers through edit.
func got(edit func(key string, v secret.Value, err error) (secret.Value, error)) func(secret.Driver) secret.Driver {
	return func(d secret.Driver) secret.Driver {
		return hooks{list: d.List, close: fine, get: func(ctx context.Context, key string) (secret.Value, error) {
			v, err := d.Get(ctx, key)
			return edit(key, v, err)
		}}
	}
}

func fine() error { return nil }

// listing puts something in place of List.
func listing(replace func(list lister) lister) func(secret.Driver) secret.Driver {
	return func(d secret.Driver) secret.Driver {
		return hooks{get: d.Get, close: fine, list: replace(d.List)}
	}
}

var valueMutants = []componenttest.Mutant[secret.Driver]{
	{Name: "absent key has an empty value", Break: got(func(_ string, v secret.Value, err error) (secret.Value, error) {
		if errors.Is(err, components.ErrNotFound) {
			return v, nil
		}
		return v, err
	})},
	{Name: "absent key is unavailable", Break: got(func(_ string, v secret.Value, err error) (secret.Value, error) {
		if errors.Is(err, components.ErrNotFound) {
			err = components.ErrUnavailable
		}
		return v, err
	})},
	{Name: "keys are matched in lower case", Break: func(d secret.Driver) secret.Driver {
		return hooks{list: d.List, close: fine, get: func(ctx context.Context, key string) (secret.Value, error) {
			if v, err := d.Get(ctx, key); err == nil {
				return v, nil
			}
			return d.Get(ctx, strings.ToLower(key))
		}}
	}},
	{Name: "values lose their blanks", Break: got(func(_ string, v secret.Value, err error) (secret.Value, error) {
		v.Data = secret.Data(strings.TrimSpace(string(v.Data)))
		return v, err
	})},
	{Name: "values are cut", Break: got(func(_ string, v secret.Value, err error) (secret.Value, error) {
		v.Data = v.Data[:min(len(v.Data), 4<<10)]
		return v, err
	})},
	{Name: "all versions are one", Break: got(func(_ string, v secret.Value, err error) (secret.Value, error) {
		v.Version = "1"
		return v, err
	})},
	{Name: "versions change by themselves", Break: func(d secret.Driver) secret.Driver {
		var mu sync.Mutex
		n := 0
		return got(func(_ string, v secret.Value, err error) (secret.Value, error) {
			mu.Lock()
			defer mu.Unlock()
			n++
			v.Version = fmt.Sprint(n)
			return v, err
		})(d)
	}},
	{Name: "versions are the values", Break: got(func(_ string, v secret.Value, err error) (secret.Value, error) {
		v.Version = string(v.Data)
		return v, err
	})},
	{Name: "errors tell what is near", Break: func(d secret.Driver) secret.Driver {
		return hooks{list: d.List, close: fine, get: func(ctx context.Context, key string) (secret.Value, error) {
			v, err := d.Get(ctx, key)
			if err != nil {
				near, _ := d.Get(ctx, "k")
				err = fmt.Errorf("%w (k is %s)", err, string(near.Data))
			}
			return v, err
		}}
	}},
	{Name: "the first answer is kept", Break: func(d secret.Driver) secret.Driver {
		var kept sync.Map
		return hooks{list: d.List, close: fine, get: func(ctx context.Context, key string) (secret.Value, error) {
			if v, ok := kept.Load(key); ok {
				return v.(secret.Value), nil
			}
			v, err := d.Get(ctx, key)
			if err == nil {
				kept.Store(key, v)
			}
			return v, err
		}}
	}},
	{Name: "removed secrets stay", Break: func(d secret.Driver) secret.Driver {
		var kept sync.Map
		return got(func(key string, v secret.Value, err error) (secret.Value, error) {
			if old, ok := kept.Load(key); ok && err != nil {
				return old.(secret.Value), nil
			}
			if err == nil {
				kept.Store(key, v)
			}
			return v, err
		})(d)
	}},
	{Name: "answers are shared", Break: func(d secret.Driver) secret.Driver {
		var kept sync.Map
		return got(func(key string, v secret.Value, err error) (secret.Value, error) {
			if old, ok := kept.Load(key); ok && old.(secret.Value).Version == v.Version {
				return old.(secret.Value), err
			}
			kept.Store(key, v)
			return v, err
		})(d)
	}},
	{Name: "answers meet each other", Break: func(d secret.Driver) secret.Driver {
		var mu sync.Mutex
		var last secret.Value
		var err error
		return hooks{list: d.List, close: fine, get: func(ctx context.Context, key string) (secret.Value, error) {
			mu.Lock()
			last, err = d.Get(ctx, key)
			mu.Unlock()
			time.Sleep(100 * time.Microsecond) // by then it may be another's
			mu.Lock()
			defer mu.Unlock()
			return last, err
		}}
	}},
	{Name: "close fails the second time", Break: func(d secret.Driver) secret.Driver {
		closed := false
		return hooks{get: d.Get, list: d.List, close: func() error {
			if closed {
				return errors.New("closed already")
			}
			closed = true
			return nil
		}}
	}},
}

var listMutants = []componenttest.Mutant[secret.Driver]{
	{Name: "lists are not sorted", Break: listing(func(list lister) lister {
		return func(ctx context.Context, prefix, after string, limit int) ([]string, error) {
			keys, err := list(ctx, prefix, after, limit)
			slices.Reverse(keys)
			return keys, err
		}
	})},
	{Name: "lists are sorted without case", Break: listing(func(list lister) lister {
		return func(ctx context.Context, prefix, after string, limit int) ([]string, error) {
			keys, err := list(ctx, prefix, after, limit)
			slices.SortStableFunc(keys, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
			return keys, err
		}
	})},
	{Name: "a page holds one more", Break: listing(func(list lister) lister {
		return func(ctx context.Context, prefix, after string, limit int) ([]string, error) {
			return list(ctx, prefix, after, limit+1)
		}
	})},
	{Name: "pages begin at the last key", Break: listing(func(list lister) lister {
		return func(ctx context.Context, prefix, after string, limit int) ([]string, error) {
			return list(ctx, prefix, after[:max(0, len(after)-1)], limit)
		}
	})},
	{Name: "lists do not ask for the prefix", Break: listing(func(list lister) lister {
		return func(ctx context.Context, _, after string, limit int) ([]string, error) {
			return list(ctx, "", after, limit)
		}
	})},
	{Name: "lists end after a page", Break: listing(func(list lister) lister {
		return func(ctx context.Context, prefix, after string, limit int) ([]string, error) {
			if after != "" {
				return nil, nil
			}
			return list(ctx, prefix, after, limit)
		}
	})},
}
