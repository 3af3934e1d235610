package client_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func TestState(t *testing.T) {
	ctx := within(t)
	s := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).State("")
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
	}
	item := client.Item{Value: []byte("v"), ContentType: "text/plain", TTL: 1500 * time.Millisecond, Metadata: map[string]string{"a": "b"}}
	version, err := s.Set(ctx, "k", item, client.IfAbsent(), client.Fence{Name: "l", Token: 5})
	is(err, nil)
	item.Version = version
	if got, err := s.Get(ctx, "k"); err != nil || !reflect.DeepEqual(got, item) {
		t.Errorf("got %+v, want %+v: %v", got, item, err)
	}
	_, err = s.Get(ctx, "none")
	is(err, client.ErrNotFound)
	_, err = s.Set(ctx, "k", item, client.IfAbsent())
	is(err, client.ErrExists)
	_, err = s.Set(ctx, "k", item, client.IfVersion("v0"))
	is(err, client.ErrVersionMismatch)
	_, err = s.Set(ctx, "k", item, client.Fence{Name: "l", Token: 4}, client.IfVersion(version))
	if is(err, client.ErrPrecondition); client.Reason(err) != "STALE_FENCE" {
		t.Error(err)
	}
	is(s.Delete(ctx, "k", client.Fence{Name: "l", Token: 4}), client.ErrPrecondition)
	is(s.Delete(ctx, "k", client.IfVersion("v0")), client.ErrVersionMismatch)
	is(s.Delete(ctx, "k", client.IfAbsent()), client.ErrInvalid)
	is(s.Delete(ctx, "k", client.IfVersion("")), client.ErrInvalid)
	is(s.Delete(ctx, "k", nil), client.ErrInvalid)
	_, err = s.Set(ctx, "k", item, client.IfAbsent(), client.IfVersion(version))
	is(err, client.ErrInvalid)
	is(s.Delete(ctx, "k", client.IfVersion(version)), nil)
	_, err = s.Get(ctx, "k")
	is(err, client.ErrNotFound)
}

func TestStateOfMany(t *testing.T) {
	ctx := within(t)
	s := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).State("default")
	for _, key := range []string{"b", "a/2", "a/1"} {
		if _, err := s.Set(ctx, key, client.Item{Value: []byte(key)}); err != nil {
			t.Fatal(err)
		}
	}
	results, err := s.GetMany(ctx, "b", "none")
	if err != nil || len(results) != 2 || string(results[0].Item.Value) != "b" || !errors.Is(results[1].Err, client.ErrNotFound) {
		t.Errorf("%+v, %v", results, err)
	}
	for _, values := range []bool{false, true} {
		list := s.List
		if values {
			list = s.ListValues
		}
		var keys []string
		for e, err := range list(ctx, "a/") {
			if err != nil || e.Item.Version == "" || (string(e.Item.Value) == e.Key) != values {
				t.Fatalf("%+v, %v", e, err)
			}
			keys = append(keys, e.Key)
		}
		if !slices.Equal(keys, []string{"a/1", "a/2"}) {
			t.Error(keys)
		}
	}
}

func TestTransact(t *testing.T) {
	ctx := within(t)
	s := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).State("")
	v := client.Item{Value: []byte("v")}
	tx := client.Transaction{Barrier: &client.Barrier{GID: "g", Branch: "b", Op: "action"}, Fence: &client.Fence{Name: "l", Token: 1},
		Operations: []client.Operation{client.SetKey("a", v, client.IfAbsent()), client.DeleteKey("b"), client.CheckKey("c", client.IfAbsent())}}
	first, err := s.Transact(ctx, tx)
	if err != nil || first.Outcome != client.Applied || len(first.Versions) != 3 || first.Versions[0] == "" || first.Versions[1] != "" {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := s.Transact(ctx, tx); err != nil || again.Outcome != client.Repeated || again.Versions != nil {
		t.Errorf("%+v, %v", again, err)
	}
	_, err = s.Transact(ctx, client.Transaction{Operations: []client.Operation{client.SetKey("d", v), client.CheckKey("a", client.IfVersion("v0"))}})
	if i, ok := client.FailedOperation(err); !errors.Is(err, client.ErrVersionMismatch) || !ok || i != 1 {
		t.Errorf("%v: operation %d, %v", err, i, ok)
	}
	if _, ok := client.FailedOperation(errors.New("another")); ok {
		t.Error("an error of no transaction has an operation")
	}
	for _, op := range []client.Operation{client.SetKey("a", v, client.IfVersion("")), client.DeleteKey("a", ""), client.CheckKey("a", nil)} {
		if _, err := s.Transact(ctx, client.Transaction{Operations: []client.Operation{op}}); !errors.Is(err, client.ErrInvalid) {
			t.Error(err)
		}
	}
	if _, err := s.Get(ctx, "d"); !errors.Is(err, client.ErrNotFound) {
		t.Error("half of it was done")
	}
}
