package client

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"

	"google.golang.org/grpc"

	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
)

// Change is the newest value of a key, or that there is none.
type Change struct {
	Key     string
	Item    ConfigItem // the zero value if Deleted
	Deleted bool       // the key is absent
}

// Watch goes through the present value of each key, absent ones included, and then each key's newest value as it changes.
// The last value always arrives; values between may be skipped for a reader that is slow.
//
// It survives a restart of the sidecar and a reload of the component: then what changed meanwhile is delivered, deletions included,
// and nothing that was delivered before. It ends when its loop is left, or with one error: that of ctx, ErrClosed, or one that
// asking again cannot mend, such as ErrNoComponent. Each loop over it is a watch of its own.
func (c *Config) Watch(ctx context.Context, keys ...string) iter.Seq2[Change, error] {
	return c.watch(ctx, keys, nil)
}

// WatchPrefix is Watch for all keys that begin with one of the prefixes.
func (c *Config) WatchPrefix(ctx context.Context, prefixes ...string) iter.Seq2[Change, error] {
	return c.watch(ctx, nil, prefixes)
}

func (c *Config) watch(ctx context.Context, keys, prefixes []string) iter.Seq2[Change, error] {
	request := &configv1.WatchRequest{Component: c.component, Keys: slices.Clone(keys), Prefixes: slices.Clone(prefixes)}
	return func(yield func(Change, error) bool) {
		seen := newSeen(request.GetKeys())
		err := watch(ctx, c.client, "config", func(ctx context.Context) (grpc.ServerStreamingClient[configv1.WatchResponse], error) {
			seen.begin()
			return c.api.Watch(ctx, request)
		}, func(m *configv1.WatchResponse) error {
			for _, change := range seen.news(m) {
				if !yield(change, nil) {
					return errEnough
				}
			}
			if seen.stale && !m.GetInitial() {
				return errOutageOver
			}
			return nil
		})
		if err != nil {
			yield(Change{}, err)
		}
	}
}

// errOutageOver has a watch begin anew: what the sidecar did not know of during an outage, and is gone since, only another initial state tells.
var errOutageOver = errors.New("the back end has come back")

// seen is what the reader of a watch knows.
type seen struct {
	keys     map[string]bool   // watched by name; true: that it is absent has been told once
	versions map[string]string // of what is there. Keys of a prefix that are gone are forgotten: there is no end to them
	named    map[string]bool   // by the initial messages so far
	stale    bool              // one of those had a value of before an outage: what they do not name may still be there
}

func newSeen(keys []string) *seen {
	s := &seen{keys: map[string]bool{}, versions: map[string]string{}}
	for _, key := range keys {
		s.keys[key] = false
	}
	return s
}

// begin is called before each stream, whose initial messages hold all there is.
func (s *seen) begin() { s.named, s.stale = map[string]bool{}, false }

// news is what a message says that the reader does not know.
func (s *seen) news(m *configv1.WatchResponse) []Change {
	var changes []Change
	if m.GetInitial() {
		for _, key := range s.missing(m) {
			changes = s.gone(changes, key)
		}
	}
	for _, change := range m.GetChanges() {
		if change.GetItem() == nil {
			changes = s.gone(changes, change.GetKey())
		} else {
			changes = s.set(changes, change.GetKey(), change.GetItem())
		}
	}
	return changes
}

// missing are the keys, sorted, that the initial messages do not name, once the last of them is there.
func (s *seen) missing(m *configv1.WatchResponse) []string {
	for _, change := range m.GetChanges() {
		s.named[change.GetKey()] = true
		s.stale = s.stale || change.GetItem().GetStale()
	}
	if m.GetMore() || s.stale {
		return []string{}
	}
	all := maps.Clone(s.keys)
	for key := range s.versions {
		all[key] = true
	}
	maps.DeleteFunc(all, func(key string, _ bool) bool { return s.named[key] })
	s.begin()
	return slices.Sorted(maps.Keys(all))
}

func (s *seen) gone(changes []Change, key string) []Change {
	_, there := s.versions[key]
	told, named := s.keys[key]
	delete(s.versions, key)
	if named {
		s.keys[key] = true
	}
	if there || named && !told {
		changes = append(changes, Change{Key: key, Deleted: true})
	}
	return changes
}

func (s *seen) set(changes []Change, key string, item *configv1.Item) []Change {
	before, there := s.versions[key]
	s.versions[key] = item.GetVersion()
	if there && before != "" && before == item.GetVersion() {
		return changes
	}
	return append(changes, Change{Key: key, Item: configItem(item)})
}
