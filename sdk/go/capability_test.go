package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func TestCache(t *testing.T) {
	ctx := within(t)
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).Cache("sessions")
	item := client.Item{Value: []byte("v"), ContentType: "text/plain", TTL: 1500 * time.Millisecond, Metadata: map[string]string{"a": "b"}}
	version, err := c.Set(ctx, "k", item)
	if err != nil {
		t.Fatal(err)
	}
	item.Version = version
	if got, err := c.Get(ctx, "k"); err != nil || !reflect.DeepEqual(got, item) {
		t.Errorf("got %+v, want %+v: %v", got, item, err)
	}
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
	}
	_, err = c.Set(ctx, "k", item, client.IfAbsent())
	is(err, client.ErrExists)
	_, err = c.Set(ctx, "k", item, client.IfVersion("v0"))
	is(err, client.ErrVersionMismatch)
	second, err := c.Set(ctx, "k", client.Item{Value: []byte("w"), TTL: -1}, client.IfVersion(version))
	is(err, client.ErrInvalid)
	second, err = c.Set(ctx, "k", client.Item{Value: []byte("w")}, client.IfVersion(version))
	is(err, nil)
	if got, err := c.Get(ctx, "k"); err != nil || got.TTL != 0 || got.Version != second {
		t.Errorf("got %+v: %v", got, err)
	}
	is(c.Touch(ctx, "k", time.Minute), nil)
	if got, _ := c.Get(ctx, "k"); got.TTL != time.Minute {
		t.Errorf("touched: %+v", got)
	}
	is(c.Touch(ctx, "none", 0), client.ErrNotFound)

	is(c.Delete(ctx, "k", client.IfVersion(version)), client.ErrVersionMismatch)
	is(c.Delete(ctx, "k", client.IfVersion(second)), nil)
	_, err = c.Get(ctx, "k")
	is(err, client.ErrNotFound)
	if there, err := c.Exists(ctx, "k"); there || err != nil {
		t.Errorf("exists %v: %v", there, err)
	}
	is(c.Delete(ctx, "k"), nil)

	for i := range int64(3) {
		if n, err := c.Increment(ctx, "n", 7, time.Hour); err != nil || n != 7*(i+1) {
			t.Errorf("sum %d: %v", n, err)
		}
	}
	if got, err := c.Get(ctx, "n"); err != nil || string(got.Value) != "21" || got.TTL != time.Hour {
		t.Errorf("got %+v: %v", got, err)
	}
}

// An empty version is what the API takes for "always": it must not get there.
func TestConditionsThatSayNothing(t *testing.T) {
	ctx := within(t)
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target))
	cache := c.Cache("")
	if _, err := cache.Set(ctx, "k", client.Item{}); err != nil {
		t.Fatal(err)
	}
	_, set := cache.Set(ctx, "k", client.Item{}, client.IfVersion(""))
	_, two := cache.Set(ctx, "k", client.Item{}, client.IfAbsent(), client.IfVersion("v1"))
	_, none := cache.Set(ctx, "k", client.Item{}, nil)
	_, many := cache.SetMany(ctx, client.Entry{Key: "k", When: client.IfVersion("")})
	_, config := c.Config("").Set(ctx, client.ConfigItem{Key: "k"}, client.IfVersion(""))
	for i, err := range []error{set, two, none, many, config, cache.Delete(ctx, "k", client.IfVersion("")), cache.Delete(ctx, "k", "v1", "v1")} {
		if !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if there, err := cache.Exists(ctx, "k"); !there || err != nil {
		t.Errorf("it is gone: %v", err)
	}
}

func TestCacheMany(t *testing.T) {
	ctx := within(t)
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).Cache("")
	set, err := c.SetMany(ctx, client.Entry{Key: "a", Item: client.Item{Value: []byte("1")}},
		client.Entry{Key: "a", When: client.IfAbsent()}, client.Entry{Key: "b", Item: client.Item{Value: []byte("2")}, When: client.IfAbsent()})
	if err != nil || len(set) != 3 || set[0].Err != nil || !errors.Is(set[1].Err, client.ErrExists) || set[2].Version == "" || set[2].Key != "b" {
		t.Fatalf("results %+v: %v", set, err)
	}
	got, err := c.GetMany(ctx, "b", "none", "a")
	if err != nil || len(got) != 3 || string(got[0].Item.Value) != "2" || string(got[2].Item.Value) != "1" {
		t.Fatalf("results %+v: %v", got, err)
	}
	if err := got[1].Err; got[1].Key != "none" || !errors.Is(err, client.ErrNotFound) || client.Reason(err) != "KEY_NOT_FOUND" {
		t.Errorf("absent: %+v", got[1])
	}
}

func TestConfig(t *testing.T) {
	ctx := within(t)
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).Config("")
	for i := range 5 {
		if _, err := c.Set(ctx, client.ConfigItem{Key: fmt.Sprintf("k%d", i), Value: []byte{byte('0' + i)}}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Get(ctx, "k1")
	if err != nil || string(got.Value) != "1" || got.Version == "" || got.Key != "k1" {
		t.Errorf("got %+v: %v", got, err)
	}
	if _, err := c.Set(ctx, client.ConfigItem{Key: "k1"}, "v0"); !errors.Is(err, client.ErrVersionMismatch) {
		t.Errorf("error %v", err)
	}
	if _, err := c.Set(ctx, got, client.IfVersion(got.Version)); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx, "k3"); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, "k3"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	var keys []string
	for item, err := range c.List(ctx, "k") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, item.Key+"="+string(item.Value))
	}
	if text := strings.Join(keys, " "); text != "k0=0 k1=1 k2=2 k4=4" {
		t.Errorf("listed %s", text)
	}
	for item := range c.List(ctx, "k") { // leaving in the middle of a page
		if item.Key != "k0" {
			t.Errorf("first %s", item.Key)
		}
		break
	}
}

func TestListEndsWithItsError(t *testing.T) {
	ctx := within(t)
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).Config("")
	for i := range 3 {
		if _, err := c.Set(ctx, client.ConfigItem{Key: fmt.Sprintf("bad%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	items, failed := 0, 0
	for _, err := range c.List(ctx, "bad") {
		if err == nil {
			items++
		} else if failed++; !errors.Is(err, client.ErrInvalid) {
			t.Errorf("error %v", err)
		}
	}
	if items != 2 || failed != 1 {
		t.Errorf("%d items, %d errors", items, failed)
	}
}

func TestSecret(t *testing.T) {
	ctx := within(t)
	s := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).Secret("env")
	got, err := s.Get(ctx, "db")
	if err != nil || string(got.Reveal()) != "hunter2" || got.Version != "1" {
		t.Errorf("got %q: %v", got.Reveal(), err)
	}
	encoded, err := json.Marshal(map[string]any{"secret": got})
	if err != nil {
		t.Fatal(err)
	}
	inside := struct{ password client.Secret }{got} // fmt asks no methods of what is unexported
	for _, text := range []string{fmt.Sprint(got), fmt.Sprintf("%+v %#v %q %d", got, got, &got, got), string(encoded), got.LogValue().String(),
		fmt.Sprintf("*** %v %+v %#v", inside, &inside, inside)} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "104 117") || strings.Contains(text, "0x68, 0x75") || !strings.Contains(text, "***") {
			t.Errorf("it shows: %s", text)
		}
	}
	if _, err := s.Get(ctx, "none"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	many, err := s.GetMany(ctx, "mail", "none")
	if err != nil || len(many) != 2 || string(many[0].Secret.Reveal()) != "pa55" || !errors.Is(many[1].Err, client.ErrNotFound) {
		t.Errorf("results %+v: %v", many, err)
	}
	var keys []string
	for key, err := range s.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if !reflect.DeepEqual(keys, []string{"db", "mail", "sms"}) {
		t.Errorf("keys %v", keys)
	}
}

func TestInvoke(t *testing.T) {
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target))
	r, err := c.Invoke(within(t), "shop/stock", "left?of=pens", []byte("all"), client.Verb("PUT"), client.ContentType("text/plain"),
		client.Metadata(map[string]string{"x-user": "7"}), client.Idempotent())
	want := client.Response{Data: []byte("PUT shop/stock/left?of=pens all"), ContentType: "text/plain",
		Metadata: map[string]string{"x-user": "7", "x-idempotent": "true"}, HTTPStatus: 200}
	if err != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("answer %+v: %v", r, err)
	}
}

func TestRegistry(t *testing.T) {
	ctx := within(t)
	r := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).Registry()
	stock := client.Service{Name: "stock"}
	if _, err := r.Resolve(ctx, stock); !errors.Is(err, client.ErrNotFound) || client.Reason(err) != "SERVICE_NOT_FOUND" {
		t.Errorf("error %v", err)
	}
	for _, port := range []int{0, -1, 70000, 1<<32 + 80} {
		if _, err := r.Publish(ctx, client.Publication{Service: stock, Port: port}); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("port %d: %v", port, err)
		}
	}
	p := client.Publication{Service: stock, Port: 8080, Weight: 50, Zone: "a", Labels: map[string]string{"version": "v2"}}
	if announced, err := r.Publish(ctx, p); err != nil || announced != "192.0.2.1:7080" {
		t.Errorf("announced %q: %v", announced, err)
	}
	got, err := r.Resolve(ctx, stock)
	want := client.Resolution{Address: outbound, Instances: []client.Instance{
		{Address: "192.0.2.1:7080", Weight: 50, Zone: "a", Labels: map[string]string{"version": "v2"}}, {Address: "192.0.2.2:7080", Weight: 50}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("resolved %+v: %v", got, err)
	}
	if err := r.Unpublish(ctx, stock); err != nil {
		t.Error(err)
	}
}
