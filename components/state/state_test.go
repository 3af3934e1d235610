package state_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
)

var caller = components.Caller{Namespace: "shop", App: "orders"}

// plain is a driver that offers nothing beyond what it must, and notes what it is asked.
type plain struct {
	asked   []state.Transaction
	gets    []string
	lists   []string
	item    state.Item
	result  state.Result
	entries []state.Entry
	more    bool
	err     error
}

func (p *plain) Get(_ context.Context, key string) (state.Item, error) {
	p.gets = append(p.gets, key)
	return p.item, p.err
}

func (p *plain) Transact(_ context.Context, t state.Transaction) (state.Result, error) {
	p.asked = append(p.asked, t)
	return p.result, p.err
}

func (p *plain) List(_ context.Context, prefix, after string, limit int, values bool) ([]state.Entry, bool, error) {
	p.lists = append(p.lists, fmt.Sprint(prefix, " ", after, " ", limit, " ", values))
	return p.entries, p.more, p.err
}

// many is one that gets many at once.
type many struct {
	plain
	results []state.GetResult
}

func (m *many) GetMany(context.Context, []string) ([]state.GetResult, error) { return m.results, nil }

// narrow is one that offers a single feature.
type narrow struct {
	plain
	has state.Feature
}

func (n *narrow) Offers(f state.Feature) bool { return f == n.has }

func front(d state.Driver) *state.State {
	c := components.NewComponent[state.Driver](components.ID{Capability: "state", Name: "orders", Driver: "plain"}, components.Limits{}, nil)
	c.Set(d)
	return state.New(c)
}

func set(key string) state.Operation {
	return state.Operation{Kind: state.Set, Key: key, Item: state.Item{Value: []byte("v"), TTL: 1500 * time.Microsecond}}
}

func TestDriversSeeStoredNames(t *testing.T) {
	d := &plain{result: state.Result{Outcome: state.Applied, Versions: []string{"v1"}}}
	tx := state.Transaction{Operations: []state.Operation{set("k")}, Fence: state.Fence{Component: "default", Name: "l", Token: 1},
		Barrier: state.Barrier{GID: "g", Branch: "b", Op: "action"}, IdempotencyKey: "once"}
	if _, err := front(d).Transact(t.Context(), caller, tx); err != nil {
		t.Fatal(err)
	}
	got := d.asked[0]
	if op := got.Operations[0]; op.Key != "shop/orders/k" || op.Item.TTL != 2*time.Millisecond {
		t.Errorf("%+v", op)
	}
	if got.Fence.Name != "shop/orders/l" || got.Barrier.GID != "shop/orders/g" || got.Barrier.Branch != "b" || got.IdempotencyKey != "shop/orders/once" {
		t.Errorf("%+v", got)
	}
	if tx.Operations[0].Key != "k" {
		t.Error("what was lent was changed")
	}
}

// The digest is stored by drivers: one that changed would refuse repeats over an upgrade.
func TestDigestIsFixed(t *testing.T) {
	d := &plain{result: state.Result{Outcome: state.Applied, Versions: []string{"", ""}}}
	tx := state.Transaction{IdempotencyKey: "once", Operations: []state.Operation{
		{Kind: state.Set, Key: "k", Item: state.Item{Value: []byte("v"), ContentType: "text/plain", TTL: time.Second, Metadata: map[string]string{"b": "2", "a": "1"}},
			Condition: state.Condition{IfAbsent: true}},
		{Kind: state.Delete, Key: "l", Condition: state.Condition{IfVersion: "v1"}}}}
	for range 10 { // maps have no order
		if _, err := front(d).Transact(t.Context(), caller, tx); err != nil {
			t.Fatal(err)
		}
	}
	tx.Fence = state.Fence{Component: "default", Name: "l", Token: 9}
	if _, err := front(d).Transact(t.Context(), caller, tx); err != nil {
		t.Fatal(err)
	}
	const want = "d45329ac349d48bfcae01888925bd501545b9ff2ccd2840d3591fac2dd8499f1"
	for _, asked := range d.asked {
		if got := fmt.Sprintf("%x", asked.Digest); got != want {
			t.Fatalf("digest %s, want %s", got, want)
		}
	}
}

func TestSingleWritesAreTransactionsOfOne(t *testing.T) {
	d := &plain{result: state.Result{Outcome: state.Applied, Versions: []string{"v1"}}}
	s, ctx := front(d), t.Context()
	version, err := s.Set(ctx, caller, "k", state.Item{}, state.Condition{IfAbsent: true}, state.Fence{})
	if err != nil || version != "v1" || d.asked[0].Operations[0].Kind != state.Set || !d.asked[0].Operations[0].IfAbsent {
		t.Errorf("%q, %v, %+v", version, err, d.asked)
	}
	if err := s.Delete(ctx, caller, "k", "v1", state.Fence{}); err != nil || d.asked[1].Operations[0].Kind != state.Delete || d.asked[1].Operations[0].IfVersion != "v1" {
		t.Errorf("%v, %+v", err, d.asked)
	}
	d.err = &state.OperationError{Err: components.ErrConflict}
	_, err = s.Set(ctx, caller, "k", state.Item{}, state.Condition{}, state.Fence{})
	if !errors.Is(err, components.ErrConflict) || strings.Contains(err.Error(), "operation") {
		t.Errorf("%v: a single write is no operation to its caller", err)
	}
	for _, r := range []state.Result{{}, {Outcome: state.Applied}, {Outcome: state.Repeated}} {
		if _, err := front(&plain{result: r}).Set(ctx, caller, "k", state.Item{}, state.Condition{}, state.Fence{}); err == nil {
			t.Errorf("an answer of %+v was taken", r)
		}
	}
}

func TestWhatADriverDoesNotOfferIsRefused(t *testing.T) {
	needs := map[state.Feature]state.Transaction{
		state.Many:        {Operations: []state.Operation{set("a"), set("b")}},
		state.Fencing:     {Operations: []state.Operation{set("a")}, Fence: state.Fence{Component: "default", Name: "l", Token: 1}},
		state.Barriers:    {Operations: []state.Operation{set("a")}, Barrier: state.Barrier{GID: "g", Branch: "b", Op: "try"}},
		state.Idempotency: {Operations: []state.Operation{set("a")}, IdempotencyKey: "k"},
	}
	for has := range needs {
		for need, tx := range needs {
			d := &narrow{has: has, plain: plain{result: state.Result{Outcome: state.Applied, Versions: make([]string, len(tx.Operations))}}}
			_, err := front(d).Transact(t.Context(), caller, tx)
			if errors.Is(err, components.ErrUnsupported) == (need == has) || len(d.asked) == 1 != (need == has) {
				t.Errorf("with %q, asked for %q: %v", has, need, err)
			}
		}
	}
}

func TestGetManyWithoutTheDriversHelp(t *testing.T) {
	d := &plain{item: state.Item{Value: []byte("v")}}
	results, err := front(d).GetMany(t.Context(), caller, []string{"a", "", "b"})
	if err != nil || len(results) != 3 || string(results[2].Item.Value) != "v" || !errors.Is(results[1].Err, components.ErrInvalid) || !slices.Equal(d.gets, []string{"shop/orders/a", "shop/orders/b"}) {
		t.Errorf("%+v, %v, asked for %q", results, err, d.gets)
	}
	d.item.Value = make([]byte, 33<<20)
	_, err = front(d).GetMany(t.Context(), caller, []string{"a", "b"})
	var detail *components.Detail
	if !errors.Is(err, components.ErrExhausted) || !errors.As(err, &detail) || detail.Reason != state.ReasonTooMuch {
		t.Errorf("more than is put together: %v", err)
	}
	if _, err := front(&many{results: make([]state.GetResult, 1)}).GetMany(t.Context(), caller, []string{"a", "b"}); err == nil {
		t.Error("one result for two keys was taken")
	}
}

func TestList(t *testing.T) {
	d := &plain{entries: []state.Entry{{Key: "shop/orders/a/1"}, {Key: "shop/orders/a/2"}}, more: true}
	s := front(d)
	entries, next, err := s.List(t.Context(), caller, "a/", 2, "", true)
	if err != nil || len(entries) != 2 || entries[1].Key != "a/2" || next == "" {
		t.Fatalf("%+v, %q, %v", entries, next, err)
	}
	d.entries, d.more = nil, false
	if entries, next, err = s.List(t.Context(), caller, "a/", 0, next, false); err != nil || len(entries) != 0 || next != "" {
		t.Errorf("%+v, %q, %v", entries, next, err)
	}
	if want := []string{"shop/orders/a/  2 true", "shop/orders/a/ shop/orders/a/2 1000 false"}; !slices.Equal(d.lists, want) {
		t.Errorf("asked %q, want %q", d.lists, want)
	}
	if _, _, err := s.List(t.Context(), components.Caller{}, "", 0, "", false); !errors.Is(err, components.ErrUnauthenticated) {
		t.Errorf("nobody's list: %v", err)
	}
}
