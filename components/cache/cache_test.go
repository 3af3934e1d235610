package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

var caller = components.Caller{Namespace: "shop", App: "orders"}

// plain is a driver that offers nothing beyond what it must, and notes what it is asked.
type plain struct {
	calls []string
	items map[string]cache.Item
	err   error
}

func (p *plain) Get(_ context.Context, key string) (cache.Item, error) {
	p.calls = append(p.calls, "get "+key)
	item, ok := p.items[key]
	if !ok && p.err == nil {
		return item, components.ErrNotFound
	}
	return item, p.err
}

func (p *plain) Set(_ context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
	p.calls = append(p.calls, fmt.Sprintf("set %s %q %s %+v", key, item.Value, item.TTL, opts.Condition))
	return "v1", p.err
}

func (p *plain) Delete(_ context.Context, key string, opts cache.DeleteOptions) error {
	p.calls = append(p.calls, "delete "+key+" "+opts.IfVersion)
	return p.err
}

// rich offers more.
type rich struct {
	plain
	short bool // answers one result too few
}

func (r *rich) Offers(f cache.Feature) bool { return f == cache.SetIfAbsent }

func (r *rich) Exists(_ context.Context, key string) (bool, error) {
	r.calls = append(r.calls, "exists "+key)
	return true, nil
}

func (r *rich) Touch(_ context.Context, key string, ttl time.Duration) error {
	r.calls = append(r.calls, "touch "+key+" "+ttl.String())
	return nil
}

func (r *rich) Increment(_ context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
	r.calls = append(r.calls, fmt.Sprintf("increment %s %d %s", key, delta, ttl))
	return delta, nil
}

func (r *rich) GetMany(_ context.Context, keys []string) ([]cache.Result, error) {
	r.calls = append(r.calls, "get many "+strings.Join(keys, " "))
	results := make([]cache.Result, len(keys))
	for i, key := range keys {
		results[i].Item.Value = []byte(key)
	}
	if r.short {
		results = results[1:]
	}
	return results, r.err
}

func (r *rich) SetMany(_ context.Context, entries []cache.Entry) ([]cache.SetResult, error) {
	results := make([]cache.SetResult, len(entries))
	for i, e := range entries {
		r.calls = append(r.calls, "set many "+e.Key+" "+e.Item.TTL.String())
		results[i].Version = e.Key
	}
	if r.short {
		results = results[1:]
	}
	return results, r.err
}

// noted is an Observer that keeps what it is told.
type noted []string

func (n *noted) Observe(_ context.Context, id components.ID, op string, _ time.Time, err error) {
	*n = append(*n, fmt.Sprintf("%s %s %s %s %t", id.Capability, id.Name, id.Driver, op, err == nil))
}

func front(d cache.Driver, observe components.Observer) *cache.Cache {
	c := components.NewComponent[cache.Driver](components.ID{Capability: "cache", Name: "sessions", Driver: "plain"}, components.Limits{}, observe)
	c.Set(d)
	return cache.New(c)
}

// each makes one call of every kind with a key and a time to live.
func each(c *cache.Cache, who components.Caller, key string, ttl time.Duration) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"get":    func(ctx context.Context) error { _, err := c.Get(ctx, who, key); return err },
		"delete": func(ctx context.Context) error { return c.Delete(ctx, who, key, "") },
		"exists": func(ctx context.Context) error { _, err := c.Exists(ctx, who, key); return err },
		"touch":  func(ctx context.Context) error { return c.Touch(ctx, who, key, ttl) },
		"set": func(ctx context.Context) error {
			_, err := c.Set(ctx, who, key, cache.Item{TTL: ttl}, cache.Condition{})
			return err
		},
		"increment": func(ctx context.Context) error { _, err := c.Increment(ctx, who, key, 1, ttl); return err },
		"get many": func(ctx context.Context) error {
			r, err := c.GetMany(ctx, who, []string{key})
			if err == nil {
				err = r[0].Err
			}
			return err
		},
		"set many": func(ctx context.Context) error {
			r, err := c.SetMany(ctx, who, []cache.Entry{{Key: key, Item: cache.Item{TTL: ttl}}})
			if err == nil {
				err = r[0].Err
			}
			return err
		},
	}
}

func TestBadArgumentsDoNotReachTheDriver(t *testing.T) {
	d := &rich{}
	c := front(d, nil)
	refuse := func(why string, calls map[string]func(context.Context) error, kind error, ops ...string) {
		for op, call := range calls {
			if len(ops) > 0 && !strings.Contains(strings.Join(ops, ","), op) {
				continue
			}
			d.calls = nil
			if err := call(t.Context()); !errors.Is(err, kind) {
				t.Errorf("%s with %s: %v, want %v", op, why, err, kind)
			}
			if len(d.calls) > 0 {
				t.Errorf("%s with %s reached the driver: %q", op, why, d.calls)
			}
		}
	}
	for why, key := range map[string]string{"no key": "", "a long key": strings.Repeat("k", 1<<20), "invalid UTF-8": "k\xff", "a NUL": "k\x00"} {
		refuse(why, each(c, caller, key, 0), components.ErrInvalid)
	}
	for why, ttl := range map[string]time.Duration{"a negative ttl": -1, "a tiny ttl": time.Millisecond - 1, "an endless ttl": math.MaxInt64} {
		refuse(why, each(c, caller, "k", ttl), components.ErrInvalid, "set", "touch", "increment", "set many")
	}
	for why, who := range map[string]components.Caller{"no caller": {}, "no app": {Namespace: "shop"}, "a caller with a slash": {Namespace: "a/b", App: "c"}} {
		refuse(why, each(c, who, "k", 0), components.ErrUnauthenticated)
	}
}

func TestConditionsThatContradict(t *testing.T) {
	c := front(&plain{}, nil)
	if _, err := c.Set(t.Context(), caller, "k", cache.Item{}, cache.Condition{IfAbsent: true, IfVersion: "1"}); !errors.Is(err, components.ErrInvalid) {
		t.Errorf("%v, want ErrInvalid", err)
	}
}

func TestDriverSeesStoredKeysAndWholeMilliseconds(t *testing.T) {
	d := &rich{}
	c := front(d, nil)
	for op, want := range map[string]string{
		"get": "get shop/orders/k", "delete": "delete shop/orders/k ", "exists": "exists shop/orders/k", "touch": "touch shop/orders/k 2ms",
		"set": `set shop/orders/k "" 2ms {IfVersion: IfAbsent:false}`, "increment": "increment shop/orders/k 1 2ms",
		"get many": "get many shop/orders/k", "set many": "set many shop/orders/k 2ms",
	} {
		d.calls = nil
		_ = each(c, caller, "k", 1100*time.Microsecond)[op](t.Context())
		if !reflect.DeepEqual(d.calls, []string{want}) {
			t.Errorf("%s: the driver saw %q, want %q", op, d.calls, want)
		}
	}
}

func TestWhatADriverDoesNotOffer(t *testing.T) {
	c := front(&plain{}, nil)
	r := front(&rich{}, nil)
	set := func(c *cache.Cache, when cache.Condition) error {
		_, err := c.Set(t.Context(), caller, "k", cache.Item{}, when)
		return err
	}
	_, increment := c.Increment(t.Context(), caller, "k", 1, 0)
	for feature, err := range map[string]error{
		"increment": increment, "touch": c.Touch(t.Context(), caller, "k", 0),
		"set if version": set(r, cache.Condition{IfVersion: "1"}), "delete if version": r.Delete(t.Context(), caller, "k", "1"),
	} {
		var d *components.Detail
		want := fmt.Sprintf(`cache "sessions": not supported: driver "plain" does not offer %q`, feature)
		if !errors.Is(err, components.ErrUnsupported) || err.Error() != want || !errors.As(err, &d) || d.Metadata["feature"] != feature || d.Metadata["driver"] != "plain" {
			t.Errorf("%s: %v", feature, err)
		}
	}
	for name, err := range map[string]error{
		"any": set(r, cache.Condition{}), "if absent": set(r, cache.Condition{IfAbsent: true}), "delete": r.Delete(t.Context(), caller, "k", ""),
		"if version": set(c, cache.Condition{IfVersion: "1"}), "if absent, not restricted": set(c, cache.Condition{IfAbsent: true}),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExistsIsComposedOfGet(t *testing.T) {
	d := &plain{items: map[string]cache.Item{"shop/orders/k": {}}}
	c := front(d, nil)
	if there, err := c.Exists(t.Context(), caller, "k"); !there || err != nil {
		t.Errorf("%v, %v", there, err)
	}
	if there, err := c.Exists(t.Context(), caller, "absent"); there || err != nil {
		t.Errorf("absent: %v, %v", there, err)
	}
	d.err = components.ErrUnavailable
	if there, err := c.Exists(t.Context(), caller, "k"); there || !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("with the store away: %v, %v", there, err)
	}
}

func TestManyKeepsItsPlaces(t *testing.T) {
	c := front(&rich{}, nil)
	got, err := c.GetMany(t.Context(), caller, []string{"b", "", "a"})
	if err != nil || string(got[0].Item.Value) != "shop/orders/b" || !errors.Is(got[1].Err, components.ErrInvalid) || string(got[2].Item.Value) != "shop/orders/a" || got[2].Key != "a" {
		t.Errorf("get many: %+v, %v", got, err)
	}
	set, err := c.SetMany(t.Context(), caller, []cache.Entry{{Key: "b"}, {Key: "x", Item: cache.Item{TTL: -1}}, {Key: "a"}})
	if err != nil || set[0].Version != "shop/orders/b" || !errors.Is(set[1].Err, components.ErrInvalid) || set[2].Version != "shop/orders/a" || set[2].Key != "a" {
		t.Errorf("set many: %+v, %v", set, err)
	}
}

func TestDriverThatAnswersTooFew(t *testing.T) {
	c := front(&rich{short: true}, nil)
	if results, err := c.GetMany(t.Context(), caller, []string{"a", "b"}); err == nil {
		t.Errorf("get many: %+v", results)
	}
	if results, err := c.SetMany(t.Context(), caller, []cache.Entry{{Key: "a"}, {Key: "b"}}); err == nil {
		t.Errorf("set many: %+v", results)
	}
}

func TestManyStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := front(stops{&plain{}, cancel}, nil)
	if _, err := c.GetMany(ctx, caller, []string{"a", "b"}); !errors.Is(err, context.Canceled) {
		t.Errorf("get many: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	c = front(stops{&plain{}, cancel}, nil)
	if _, err := c.SetMany(ctx, caller, []cache.Entry{{Key: "a"}, {Key: "b"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("set many: %v", err)
	}
}

// stops ends the context with the first call.
type stops struct {
	cache.Driver
	cancel func()
}

func (s stops) Get(ctx context.Context, key string) (cache.Item, error) {
	s.cancel()
	return s.Driver.Get(ctx, key)
}

func (s stops) Set(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
	s.cancel()
	return s.Driver.Set(ctx, key, item, opts)
}

func TestCallsAreObserved(t *testing.T) {
	var n noted
	c := front(&rich{}, &n)
	for op, name := range map[string]string{"get": "get", "set": "set", "delete": "delete", "exists": "exists", "touch": "touch",
		"increment": "increment", "get many": "get_many", "set many": "set_many"} {
		n = nil
		_ = each(c, caller, "k", 0)[op](t.Context())
		want := fmt.Sprintf("cache sessions plain %s %t", name, op != "get")
		if !reflect.DeepEqual([]string(n), []string{want}) {
			t.Errorf("%s: %q, want %q", op, n, want)
		}
	}
}

func TestExpiredDeadlineDoesNotReachTheDriver(t *testing.T) {
	d := &rich{}
	c := front(d, nil)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for op, call := range each(c, caller, "k", 0) {
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want DeadlineExceeded", op, err)
		}
	}
	if len(d.calls) > 0 {
		t.Errorf("the driver was called: %q", d.calls)
	}
}
