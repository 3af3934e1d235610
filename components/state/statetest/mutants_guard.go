package statetest

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
)

var readMutants = []mutant{
	read("absent is empty", func(_ *state.Item, err *error) {
		if errors.Is(*err, components.ErrNotFound) {
			*err = nil
		}
	}),
	read("time to live not told", func(item *state.Item, _ *error) { item.TTL = 0 }),
	read("value ends at NUL", func(item *state.Item, _ *error) {
		if before, _, cut := strings.Cut(string(item.Value), "\x00"); cut {
			item.Value = []byte(before)
		}
	}),
	hooked("keys in lower case", func(h *hooks) {
		h.get = func(ctx context.Context, key string) (state.Item, error) {
			return h.Full.Get(ctx, strings.ToLower(key))
		}
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			t.Operations = append([]state.Operation(nil), t.Operations...)
			for i := range t.Operations {
				t.Operations[i].Key = strings.ToLower(t.Operations[i].Key)
			}
			return h.Full.Transact(ctx, t)
		}
	}),
	hooked("values kept and lent to all", func(h *hooks) {
		var mu sync.Mutex
		kept := map[string]state.Item{} // by version
		h.get = func(ctx context.Context, key string) (state.Item, error) {
			item, err := h.Full.Get(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			if before, again := kept[item.Version]; again && err == nil {
				item.Value = before.Value
			} else if err == nil {
				kept[item.Version] = item
			}
			return item, err
		}
	}),
	listed("a list without an end", func(_ int, entries []state.Entry, more bool) ([]state.Entry, bool) { return entries, len(entries) > 0 }),
	listed("only one page", func(_ int, entries []state.Entry, _ bool) ([]state.Entry, bool) { return entries, false }),
	listed("one too few", func(limit int, entries []state.Entry, more bool) ([]state.Entry, bool) {
		if len(entries) == limit && limit > 1 {
			return entries[:limit-1], false
		}
		return entries, more
	}),
	listed("a list without metadata", func(_ int, entries []state.Entry, more bool) ([]state.Entry, bool) {
		for i := range entries {
			entries[i].Item.Metadata = nil
		}
		return entries, more
	}),
	hooked("values in every list", func(h *hooks) {
		h.list = func(ctx context.Context, prefix, after string, limit int, _ bool) ([]state.Entry, bool, error) {
			return h.Full.List(ctx, prefix, after, limit, true)
		}
	}),
	hooked("a list of everybody's", func(h *hooks) {
		h.list = func(ctx context.Context, prefix, after string, limit int, values bool) ([]state.Entry, bool, error) {
			namespace, _, _ := strings.Cut(prefix, "/")
			entries, more, err := h.Full.List(ctx, namespace+"/", after, limit, values)
			for i := range entries {
				entries[i].Key += strings.Repeat(" ", len(prefix))
			}
			return entries, more, err
		}
	}),
	hooked("second close fails", func(h *hooks) {
		var mu sync.Mutex
		var closed bool
		h.close = func(ctx context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if closed {
				return errors.New("closed already")
			}
			closed = true
			return h.Full.Close(ctx)
		}
	}),
}

var guardMutants = []mutant{
	written("fences ignored", func(t *state.Transaction) { t.Fence = state.Fence{} }),
	written("tokens of 63 bits", func(t *state.Transaction) {
		if t.Fence.Token >= 1<<63 {
			t.Fence.Token -= 1<<63 - 1
		}
	}),
	written("tokens as floating point", func(t *state.Transaction) {
		if t.Fence.Token < 1<<60 {
			t.Fence.Token = uint64(float64(t.Fence.Token))
		}
	}),
	written("all locks are one", func(t *state.Transaction) {
		if t.Fence.Token != 0 {
			t.Fence.Component, t.Fence.Name = "default", "guard"
		}
	}),
	written("names of locks run together", func(t *state.Transaction) {
		if t.Fence.Token != 0 {
			t.Fence.Component, t.Fence.Name = "all", t.Fence.Component+t.Fence.Name
		}
	}),
	hooked("fences only noted when they hold alone", func(h *hooks) {
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			if t.Fence != (state.Fence{}) { // in a step before
				if r, err := h.Full.Transact(ctx, state.Transaction{Fence: t.Fence, Operations: []state.Operation{{Kind: state.Delete, Key: t.Fence.Name + "/nothing"}}}); err != nil {
					return r, err
				}
				t.Fence = state.Fence{}
			}
			return h.Full.Transact(ctx, t)
		}
	}),
	written("barriers ignored", func(t *state.Transaction) { t.Barrier = state.Barrier{} }),
	written("barriers without branch", func(t *state.Transaction) {
		if t.Barrier.Op != "" {
			t.Barrier.Branch = "all"
		}
	}),
	written("compensations like any call", func(t *state.Transaction) {
		if t.Barrier.Op == "compensation" {
			t.Barrier.Op = "undo"
		}
	}),
	written("cancels like any call", func(t *state.Transaction) {
		if t.Barrier.Op == "cancel" {
			t.Barrier.Op = "undo"
		}
	}),
	hooked("barrier claimed before", func(h *hooks) {
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			if t.Barrier != (state.Barrier{}) && t.IdempotencyKey == "" {
				if r, err := h.Full.Transact(ctx, state.Transaction{Barrier: t.Barrier}); err != nil || r.Outcome != state.Applied || len(t.Operations) == 0 {
					return r, err
				}
				t.Barrier = state.Barrier{}
			}
			return h.Full.Transact(ctx, t)
		}
	}),
	hooked("suspended told as repeated", func(h *hooks) {
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			r, err := h.Full.Transact(ctx, t)
			if r.Outcome == state.Suspended {
				r.Outcome = state.Repeated
			}
			return r, err
		}
	}),
	written("idempotency ignored", func(t *state.Transaction) { t.IdempotencyKey, t.Digest = "", "" }),
	written("content of a repeat ignored", func(t *state.Transaction) {
		if t.IdempotencyKey != "" {
			t.Digest = strings.Repeat("d", 32)
		}
	}),
	hooked("idempotency keys of the process", func(h *hooks) {
		var mu sync.Mutex
		answers := map[string]state.Result{}
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			if t.IdempotencyKey == "" {
				return h.Full.Transact(ctx, t)
			}
			mu.Lock()
			defer mu.Unlock()
			id := t.IdempotencyKey + t.Digest
			if r, again := answers[id]; again {
				return r, nil
			}
			t.IdempotencyKey += strings.Repeat("x", len(answers))
			r, err := h.Full.Transact(ctx, t)
			if err == nil {
				answers[id] = r
			}
			return r, err
		}
	}),
}
