package statetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// Full is a driver that there are mutants of.
type Full interface {
	state.Driver
	components.Closer
}

// Mutants are faults that drivers may have, each of which Run finds. What they break must be a Full driver.
func Mutants() []componenttest.Mutant[state.Driver] {
	return slices.Concat(writeMutants, readMutants, guardMutants, laterMutants)
}

type mutant = componenttest.Mutant[state.Driver]

// hooks takes the place of some calls of a driver; those that are nil go through.
type hooks struct {
	Full
	get      func(ctx context.Context, key string) (state.Item, error)
	transact func(ctx context.Context, t state.Transaction) (state.Result, error)
	list     func(ctx context.Context, prefix, after string, limit int, values bool) ([]state.Entry, bool, error)
	close    func(ctx context.Context) error
}

func (h *hooks) Get(ctx context.Context, key string) (state.Item, error) {
	if h.get != nil {
		return h.get(ctx, key)
	}
	return h.Full.Get(ctx, key)
}

func (h *hooks) Transact(ctx context.Context, t state.Transaction) (state.Result, error) {
	if h.transact != nil {
		return h.transact(ctx, t)
	}
	return h.Full.Transact(ctx, t)
}

func (h *hooks) List(ctx context.Context, prefix, after string, limit int, values bool) ([]state.Entry, bool, error) {
	if h.list != nil {
		return h.list(ctx, prefix, after, limit, values)
	}
	return h.Full.List(ctx, prefix, after, limit, values)
}

func (h *hooks) Close(ctx context.Context) error {
	if h.close != nil {
		return h.close(ctx)
	}
	return h.Full.Close(ctx)
}

// hooked makes a mutant of what change does to the hooks before a sound driver.
func hooked(name string, change func(h *hooks)) mutant {
	return mutant{Name: name, Break: func(d state.Driver) state.Driver {
		h := &hooks{Full: d.(Full)}
		change(h)
		return h
	}}
}

// written is a mutant that changes transactions.
func written(name string, change func(t *state.Transaction)) mutant {
	return hooked(name, func(h *hooks) {
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			t.Operations = slices.Clone(t.Operations)
			change(&t)
			return h.Full.Transact(ctx, t)
		}
	})
}

// each is a mutant that changes every operation.
func each(name string, change func(op *state.Operation)) mutant {
	return written(name, func(t *state.Transaction) {
		for i := range t.Operations {
			change(&t.Operations[i])
		}
	})
}

// read is a mutant that changes what get answers.
func read(name string, change func(item *state.Item, err *error)) mutant {
	return hooked(name, func(h *hooks) {
		h.get = func(ctx context.Context, key string) (state.Item, error) {
			item, err := h.Full.Get(ctx, key)
			change(&item, &err)
			return item, err
		}
	})
}

// later transacts from another goroutine, soundly as far as its hook is.
type later struct {
	Full
	end func(r *state.Result, err *error)
}

func (l *later) TransactLater(ctx context.Context, t state.Transaction, done func(state.Result, error)) bool {
	go func() {
		r, err := l.Transact(ctx, t)
		l.end(&r, &err)
		done(r, err)
	}()
	return true
}

// afterwards is a mutant that changes what a transaction comes to that nobody waited for.
func afterwards(name string, end func(r *state.Result, err *error)) mutant {
	return mutant{Name: name, Break: func(d state.Driver) state.Driver { return &later{d.(Full), end} }}
}

var laterMutants = []mutant{
	afterwards("later hides errors", func(r *state.Result, err *error) {
		if *err != nil {
			*r, *err = state.Result{Outcome: state.Applied, Versions: []string{"v"}}, nil
		}
	}),
	afterwards("later gives one version", func(r *state.Result, _ *error) {
		for i := range r.Versions {
			r.Versions[i] = "v"
		}
	}),
	afterwards("later forgets the versions", func(r *state.Result, _ *error) { r.Versions = nil }),
}

// listed is a mutant that changes what list answers.
func listed(name string, change func(limit int, entries []state.Entry, more bool) ([]state.Entry, bool)) mutant {
	return hooked(name, func(h *hooks) {
		h.list = func(ctx context.Context, prefix, after string, limit int, values bool) ([]state.Entry, bool, error) {
			entries, more, err := h.Full.List(ctx, prefix, after, limit, values)
			entries, more = change(limit, entries, more)
			return entries, more, err
		}
	})
}

// apart makes each operation a transaction of its own, until one fails.
func apart(ctx context.Context, h *hooks, t state.Transaction) (state.Result, error) {
	all := state.Result{Outcome: state.Applied, Versions: []string{}}
	for i, op := range t.Operations {
		one := t
		one.Operations = []state.Operation{op}
		r, err := h.Full.Transact(ctx, one)
		if o := (*state.OperationError)(nil); errors.As(err, &o) {
			return all, &state.OperationError{Index: i, Err: o.Err}
		}
		if err != nil {
			return all, err
		}
		all.Versions = append(all.Versions, r.Versions...)
	}
	return all, nil
}

var writeMutants = []mutant{
	each("time to live lost", func(op *state.Operation) { op.Item.TTL = 0 }),
	each("time to live doubled", func(op *state.Operation) { op.Item.TTL *= 2 }),
	each("if version ignored", func(op *state.Operation) { op.IfVersion = "" }),
	each("if absent ignored", func(op *state.Operation) { op.IfAbsent = false }),
	each("checks ignored", func(op *state.Operation) {
		if op.Kind == state.Check {
			op.Kind, op.Condition = state.Delete, state.Condition{}
			op.Key += "/nothing"
		}
	}),
	each("content type lost", func(op *state.Operation) { op.Item.ContentType = "" }),
	each("metadata in lower case", func(op *state.Operation) {
		lower := map[string]string{}
		for k, v := range op.Item.Metadata {
			lower[strings.ToUpper(k)] = v
		}
		op.Item.Metadata = lower
	}),
	each("keys cut", func(op *state.Operation) { op.Key = op.Key[:min(len(op.Key), 200)] }),
	written("the last operation forgotten", func(t *state.Transaction) {
		if n := len(t.Operations); n > 1 {
			t.Operations[n-1].Kind, t.Operations[n-1].Condition = state.Check, state.Condition{}
		}
	}),
	hooked("operations one by one", func(h *hooks) {
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			if len(t.Operations) < 2 {
				return h.Full.Transact(ctx, t)
			}
			return apart(ctx, h, t)
		}
	}),
	hooked("condition and write in two steps", func(h *hooks) {
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			if len(t.Operations) != 1 || t.Operations[0].Kind != state.Set || t.Operations[0].Condition == (state.Condition{}) {
				return h.Full.Transact(ctx, t)
			}
			check := state.Transaction{Operations: []state.Operation{{Kind: state.Check, Key: t.Operations[0].Key, Condition: t.Operations[0].Condition}}}
			if r, err := h.Full.Transact(ctx, check); err != nil {
				return r, err
			}
			t.Operations = slices.Clone(t.Operations)
			t.Operations[0].Condition = state.Condition{}
			return h.Full.Transact(ctx, t)
		}
	}),
	hooked("the wrong operation blamed", func(h *hooks) {
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			r, err := h.Full.Transact(ctx, t)
			if o := (*state.OperationError)(nil); errors.As(err, &o) {
				err = &state.OperationError{Err: o.Err}
			}
			return r, err
		}
	}),
	hooked("versions of the content", func(h *hooks) {
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			r, err := h.Full.Transact(ctx, t)
			for i := range r.Versions {
				if r.Versions[i] != "" {
					r.Versions[i] = "v" + string(t.Operations[i].Item.Value)
				}
			}
			return r, err
		}
	}),
	hooked("acknowledged too early", func(h *hooks) {
		var writing sync.WaitGroup
		h.transact = func(ctx context.Context, t state.Transaction) (state.Result, error) {
			if len(t.Operations) != 1 || t.Fence != (state.Fence{}) || t.Barrier != (state.Barrier{}) || t.IdempotencyKey != "" ||
				t.Operations[0].Condition != (state.Condition{}) || t.Operations[0].Kind != state.Set || ctx.Err() != nil {
				return h.Full.Transact(ctx, t)
			}
			late := t
			late.Operations = slices.Clone(t.Operations)
			late.Operations[0].Item.Value, late.Operations[0].Item.Metadata = slices.Clone(t.Operations[0].Item.Value), maps.Clone(t.Operations[0].Item.Metadata)
			writing.Go(func() { _, _ = h.Full.Transact(context.WithoutCancel(ctx), late) })
			return state.Result{Outcome: state.Applied, Versions: []string{"early"}}, nil
		}
		h.close = func(ctx context.Context) error {
			writing.Wait()
			return h.Full.Close(ctx)
		}
	}),
}
