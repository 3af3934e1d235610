package nacos

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/components/config"
)

// readAtOnce is how many values are asked for at the same time.
const readAtOnce = 16

// List asks for the names, and then for the values that fit.
func (d *driver) List(ctx context.Context, prefix, after string, limit int) ([]config.Item, error) {
	if err := d.open(); err != nil {
		return nil, err
	}
	keys, err := d.keys(ctx, prefix, after)
	if err != nil {
		return nil, err
	}
	var items []config.Item
	for bytes := 0; len(keys) > 0 && len(items) < limit && bytes < config.PageBytes; {
		n := min(len(keys), limit-len(items), readAtOnce)
		states, err := d.readAll(ctx, keys[:n])
		if err != nil {
			return nil, err
		}
		for i, s := range states {
			if s.there && bytes < config.PageBytes {
				item := s.item(keys[i])
				items, bytes = append(items, item), bytes+len(item.Value)
			}
		}
		keys = keys[n:]
	}
	return items, nil
}

// keys are those there are, sorted.
func (d *driver) keys(ctx context.Context, prefix, after string) ([]string, error) {
	namespace, begin, _ := strings.Cut(prefix, "/")
	ids, err := d.hub.search(ctx, place{d.options.tenant(namespace), d.options.Group}, dataID(begin)+"*")
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, id := range ids {
		if key, ok := keyOf(id); ok {
			if full := namespace + "/" + key; strings.HasPrefix(full, prefix) && full > after {
				keys = append(keys, full)
			}
		}
	}
	slices.Sort(keys)
	return keys, nil
}

func (d *driver) readAll(ctx context.Context, keys []string) ([]state, error) {
	states := make([]state, len(keys))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readAtOnce)
	for i, key := range keys {
		group.Go(func() (err error) {
			states[i], err = d.read(ctx, key)
			return err
		})
	}
	return states, group.Wait()
}
