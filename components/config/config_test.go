package config_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
)

var badKeys = map[string]string{
	"empty": "", "large": strings.Repeat("k", 1<<20), "invalid UTF-8": "a\xff", "NUL": "a\x00", "up": "../payments/k",
	"up inside": "a/../../payments/k", "dot": "./k", "absolute": "/k", "empty part": "a//b", "folder": "a/",
}

func TestBadKeysDoNotReachTheDriver(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	d := newFake()
	c, _ := front(writable{d})
	for name, key := range badKeys {
		_, get := c.Get(t.Context(), app, key)
		_, set := c.Set(t.Context(), app, config.Item{Key: key}, "")
		watching := c.Watch(ctx, app, config.Selection{Keys: []string{key}}, nil)
		for op, err := range map[string]error{"get": get, "set": set, "delete": c.Delete(t.Context(), app, key), "watch": watching} {
			if !errors.Is(err, components.ErrInvalid) {
				t.Errorf("%s of a key that is %s: %v, want ErrInvalid", op, name, err)
			}
		}
	}
	for _, prefix := range []string{"../", "a/../../payments/", "\xff", "/"} {
		_, _, list := c.List(t.Context(), app, prefix, 0, "")
		watching := c.Watch(ctx, app, config.Selection{Prefixes: []string{prefix}}, nil)
		if !errors.Is(list, components.ErrInvalid) || !errors.Is(watching, components.ErrInvalid) {
			t.Errorf("prefix %q: %v, %v; want ErrInvalid", prefix, list, watching)
		}
	}
	for _, sel := range []config.Selection{{}, {Keys: make([]string, 1001)}} {
		if err := c.Watch(t.Context(), app, sel, nil); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("watch of %d keys: %v, want ErrInvalid", len(sel.Keys), err)
		}
	}
	if n := d.called(); n != 0 {
		t.Errorf("the driver was called %d times", n)
	}
}

func TestItemsThatAreTooMuch(t *testing.T) {
	c, _ := front(writable{newFake()})
	for want, item := range map[error]config.Item{
		components.ErrExhausted: {Key: "k", Value: make([]byte, config.MaxValue+1)},
		components.ErrInvalid:   {Key: "k", ContentType: "text/plain\r\nx: y"},
	} {
		if _, err := c.Set(t.Context(), app, item, ""); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

func TestNamespacesAreApart(t *testing.T) {
	c, _ := front(writable{newFake()})
	other := components.Caller{Namespace: "shop2", App: app.App}
	if _, err := c.Set(t.Context(), app, config.Item{Key: "a/k", Value: []byte("mine")}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), other, "a/k"); !errors.Is(err, components.ErrNotFound) {
		t.Errorf("another namespace gets %v, want ErrNotFound", err)
	}
	if items, _, err := c.List(t.Context(), other, "", 0, ""); err != nil || len(items) != 0 {
		t.Errorf("another namespace lists %v, %v", items, err)
	}
	sibling := components.Caller{Namespace: app.Namespace, App: "stock"}
	if item, err := c.Get(t.Context(), sibling, "a/k"); err != nil || string(item.Value) != "mine" || item.Key != "a/k" {
		t.Errorf("another application of the namespace gets %v, %v", item, err)
	}
	for _, nobody := range []components.Caller{{}, {Namespace: "shop/a"}, {Namespace: ".."}} {
		if _, err := c.Get(t.Context(), nobody, "k"); !errors.Is(err, components.ErrUnauthenticated) {
			t.Errorf("caller %q: %v, want ErrUnauthenticated", nobody, err)
		}
	}
}

func TestReadOnlyDriver(t *testing.T) {
	c, _ := front(newFake())
	_, set := c.Set(t.Context(), app, config.Item{Key: "k"}, "")
	for op, err := range map[string]error{"set": set, "delete": c.Delete(t.Context(), app, "k")} {
		if !errors.Is(err, components.ErrUnsupported) || !strings.Contains(err.Error(), "driver fake has no "+op) {
			t.Errorf("%s: %v, want ErrUnsupported that names driver and feature", op, err)
		}
	}
}

func TestExpiredDeadlineDoesNotReachTheDriver(t *testing.T) {
	d := newFake()
	c, _ := front(writable{d})
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, get := c.Get(ctx, app, "k")
	_, _, list := c.List(ctx, app, "", 0, "")
	watching := c.Watch(ctx, app, config.Selection{Keys: []string{"k"}}, nil)
	for op, err := range map[string]error{"get": get, "list": list, "watch": watching, "delete": c.Delete(ctx, app, "k")} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want DeadlineExceeded", op, err)
		}
	}
	if n := d.called(); n != 0 {
		t.Errorf("the driver was called %d times", n)
	}
}

func TestPages(t *testing.T) {
	d := newFake()
	c, _ := front(d)
	var all []string
	for i := range 25 {
		key := fmt.Sprintf("k%02d", i)
		d.put("shop/"+key, "v", "1")
		all = append(all, key)
	}
	for size, pages := range map[int]int{1: 25, 5: 5, 10: 3, 24: 2, 25: 1, 0: 1, 1000: 1} {
		if got, n := readAll(t, c, size); n != pages || !slices.Equal(got, all) {
			t.Errorf("page size %d: %d pages of %q; want %d", size, n, got, pages)
		}
	}
	for _, token := range []string{"%", "YQ==", components.PageToken("a\xff")} {
		if _, _, err := c.List(t.Context(), app, "", 0, token); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("token %q: %v, want ErrInvalid", token, err)
		}
	}
	for _, size := range []int{-1, 1001} {
		if _, _, err := c.List(t.Context(), app, "", size, ""); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("page size %d: %v, want ErrInvalid", size, err)
		}
	}
}

func TestLargeValuesEndAPageEarly(t *testing.T) {
	for _, early := range []bool{false, true} {
		d := newFake()
		d.early = early
		c, _ := front(d)
		large := strings.Repeat("x", config.PageBytes/2)
		var all []string
		for i := range 5 {
			key := fmt.Sprint("k", i)
			d.put("shop/"+key, large, "1")
			all = append(all, key)
		}
		if got, n := readAll(t, c, 0); n != 3 || !slices.Equal(got, all) {
			t.Errorf("driver ends early %v: %d pages of %q, want 3 of all", early, n, got)
		}
	}
}

// TestPagesFitAMessage: small values before a large one do not make a page that is larger than the large one alone.
func TestPagesFitAMessage(t *testing.T) {
	for _, early := range []bool{false, true} {
		d := newFake()
		d.early = early
		c, _ := front(d)
		d.put("shop/a", strings.Repeat("x", config.PageBytes-1), "1")
		d.put("shop/b", strings.Repeat("x", config.MaxValue), "1")
		d.put("shop/c", "x", "1")
		items, next, err := c.List(t.Context(), app, "", 0, "")
		if err != nil || len(items) != 1 || next == "" {
			t.Errorf("driver ends early %v: %d items on the first page, next %q, %v; want the first alone", early, len(items), next, err)
		}
		if got, n := readAll(t, c, 0); n != 3 || !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("driver ends early %v: %d pages of %q, want 3 of all", early, n, got)
		}
	}
}

func readAll(t *testing.T, c *config.Config, size int) (keys []string, pages int) {
	t.Helper()
	for token := ""; ; {
		items, next, err := c.List(t.Context(), app, "", size, token)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			keys = append(keys, item.Key)
		}
		if pages++; next == "" || pages > 100 {
			return keys, pages
		}
		token = next
	}
}

func TestLastKnownValueWhileAway(t *testing.T) {
	d := newFake()
	c, comp := front(d)
	d.put("shop/k", "one", "1")
	d.put("shop/gone", "x", "1")
	get := func(key string) (config.Item, error) { return c.Get(t.Context(), app, key) }
	if item, err := get("k"); err != nil || item.Stale {
		t.Fatalf("%v, %v", item, err)
	}
	if _, err := get("gone"); err != nil {
		t.Fatal(err)
	}
	delete(d.items, "shop/gone")
	if _, err := get("gone"); !errors.Is(err, components.ErrNotFound) {
		t.Fatal(err)
	}
	wantStale := func(when string) {
		t.Helper()
		if item, err := get("k"); err != nil || !item.Stale || string(item.Value) != "one" || item.Version != "1" || item.Key != "k" {
			t.Errorf("%s: %v, %v; want the last value, stale", when, item, err)
		}
		for _, key := range []string{"gone", "never"} {
			if _, err := get(key); !errors.Is(err, components.ErrUnavailable) {
				t.Errorf("%s: %q: %v, want ErrUnavailable", when, key, err)
			}
		}
	}
	d.fail(components.ErrUnavailable)
	wantStale("the back end is away")
	d.fail(components.ErrDenied)
	if _, err := get("k"); !errors.Is(err, components.ErrDenied) {
		t.Errorf("what is denied is answered from memory: %v", err)
	}
	comp.Clear(errors.New("no route to host"))
	wantStale("there is no driver")
	fresh := newFake()
	fresh.put("shop/k", "two", "2")
	comp.Set(fresh)
	if item, err := get("k"); err != nil || item.Stale || string(item.Value) != "two" {
		t.Errorf("after it is back: %v, %v", item, err)
	}
}

// TestOwnWritesAreKnownWhileAway: what was written through this component is not undone by an outage.
func TestOwnWritesAreKnownWhileAway(t *testing.T) {
	d := writable{newFake()}
	c, _ := front(d)
	d.put("shop/k", "one", "1")
	d.put("shop/gone", "x", "1")
	for _, key := range []string{"k", "gone"} {
		if _, err := c.Get(t.Context(), app, key); err != nil {
			t.Fatal(err)
		}
	}
	version, err := c.Set(t.Context(), app, config.Item{Key: "k", Value: []byte("two")}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), app, "gone"); err != nil {
		t.Fatal(err)
	}
	d.fail(components.ErrUnavailable)
	if item, err := c.Get(t.Context(), app, "k"); err != nil || string(item.Value) != "two" || item.Version != version || !item.Stale {
		t.Errorf("what was set: %v, %v; want the new value, stale", item, err)
	}
	if item, err := c.Get(t.Context(), app, "gone"); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("what was deleted: %v, %v; want ErrUnavailable", item, err)
	}
}

// TestLateAnswerDoesNotBringBackAnOldValue: what Get asked for before a watch reported something newer is not the last value.
func TestLateAnswerDoesNotBringBackAnOldValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, _ := front(d)
		d.put("shop/k", "old", "1")
		d.slow = make(chan struct{})
		late := make(chan error)
		go func() { _, err := c.Get(t.Context(), app, "k"); late <- err }()
		synctest.Wait()
		w := watch(t, c, config.Selection{Keys: []string{"k"}}, nil)
		f := <-d.feeds
		if err := f.report([]config.Change{d.put("shop/k", "new", "2")}, true); err != nil {
			t.Fatal(err)
		}
		w.want(t, "initial, k=new")
		close(d.slow)
		if err := <-late; err != nil {
			t.Fatal(err)
		}
		d.fail(components.ErrUnavailable)
		if item, err := c.Get(t.Context(), app, "k"); err != nil || string(item.Value) != "new" {
			t.Errorf("%q, %v; want the newer one", item.Value, err)
		}
		w.stop()
		<-w.ended
	})
}

func TestMemoryOfLastValuesIsBounded(t *testing.T) {
	d := newFake()
	c, _ := front(d)
	for i := range 10 {
		key := fmt.Sprint("k", i)
		d.put("shop/"+key, strings.Repeat("x", 4<<20-1000), "1")
		if _, err := c.Get(t.Context(), app, key); err != nil {
			t.Fatal(err)
		}
	}
	d.fail(components.ErrUnavailable)
	known := 0
	for i := range 10 {
		if _, err := c.Get(t.Context(), app, fmt.Sprint("k", i)); err == nil {
			known++
		}
	}
	if known != 4 {
		t.Errorf("%d values of 4 MiB are known, want 4: 16 MiB are the bound", known)
	}
	if _, err := c.Get(t.Context(), app, "k9"); err != nil {
		t.Errorf("the latest is not known: %v", err)
	}
}
