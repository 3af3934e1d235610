package configtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/config"
)

func digest(value []byte) string {
	sum := sha256.Sum256(value)
	return hex.EncodeToString(sum[:])
}

var readMutants = []componenttest.Mutant[config.Driver]{
	{Name: "absent key has an empty value", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), get: func(ctx context.Context, key string) (config.Item, error) {
			item, err := d.Get(ctx, key)
			if errors.Is(err, components.ErrNotFound) {
				return config.Item{Key: key, Version: "0"}, nil
			}
			return item, err
		}}
	}},
	{Name: "namespaces are not kept apart", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), get: func(ctx context.Context, key string) (config.Item, error) {
			item, err := d.Get(ctx, key)
			if err != nil {
				_, rest, _ := strings.Cut(key, "/")
				return d.Get(ctx, "ns/"+rest)
			}
			return item, err
		}}
	}},
	{Name: "values are text", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), get: func(ctx context.Context, key string) (config.Item, error) {
			item, err := d.Get(ctx, key)
			item.Value = []byte(strings.ToValidUTF8(string(item.Value), "?"))
			return item, err
		}}
	}},
	{Name: "all versions are one", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), get: func(ctx context.Context, key string) (config.Item, error) {
			item, err := d.Get(ctx, key)
			item.Version = "1"
			return item, err
		}}
	}},
	{Name: "versions are of the content alone", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), get: func(ctx context.Context, key string) (config.Item, error) {
			item, err := d.Get(ctx, key)
			item.Version = digest(item.Value)
			return item, err
		}}
	}},
	{Name: "the first answer is kept", Break: func(d config.Driver) config.Driver {
		var mu sync.Mutex
		kept := map[string]config.Item{}
		return &hooks{Full: d.(Full), get: func(ctx context.Context, key string) (config.Item, error) {
			mu.Lock()
			defer mu.Unlock()
			if item, ok := kept[key]; ok {
				return item, nil
			}
			item, err := d.Get(ctx, key)
			if err == nil {
				kept[key] = item
			}
			return item, err
		}}
	}},
	{Name: "answers are shared", Break: func(d config.Driver) config.Driver {
		var mu sync.Mutex
		shared := map[string]config.Item{}
		return &hooks{Full: d.(Full), get: func(ctx context.Context, key string) (config.Item, error) {
			mu.Lock()
			defer mu.Unlock()
			item, err := d.Get(ctx, key)
			if err == nil && shared[key].Version == item.Version {
				return shared[key], nil
			}
			shared[key] = item
			return item, err
		}}
	}},
	{Name: "lists are not sorted", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), list: func(ctx context.Context, prefix, after string, limit int) ([]config.Item, error) {
			items, err := d.List(ctx, prefix, after, limit)
			slices.Reverse(items)
			return items, err
		}}
	}},
	{Name: "lists are sorted by folder", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), list: func(ctx context.Context, prefix, after string, limit int) ([]config.Item, error) {
			items, err := d.List(ctx, prefix, after, limit)
			slices.SortFunc(items, func(a, b config.Item) int {
				return slices.Compare(strings.Split(a.Key, "/"), strings.Split(b.Key, "/"))
			})
			return items, err
		}}
	}},
	{Name: "a page holds one more", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), list: func(ctx context.Context, prefix, after string, limit int) ([]config.Item, error) {
			return d.List(ctx, prefix, after, limit+1)
		}}
	}},
	{Name: "pages begin at the last key", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), list: func(ctx context.Context, prefix, after string, limit int) ([]config.Item, error) {
			if after != "" {
				after = after[:len(after)-1]
			}
			return d.List(ctx, prefix, after, limit)
		}}
	}},
	{Name: "prefixes are folders", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), list: func(ctx context.Context, prefix, after string, limit int) ([]config.Item, error) {
			return d.List(ctx, strings.TrimSuffix(prefix, "/")+"/", after, limit)
		}}
	}},
	{Name: "prefixes lose their slash", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), list: func(ctx context.Context, prefix, after string, limit int) ([]config.Item, error) {
			return d.List(ctx, strings.TrimSuffix(prefix, "/"), after, limit)
		}}
	}},
}
