package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
)

// State is a state component as front-ends call it. All its errors wrap one of the kinds of components, or ctx's error, and name
// the component. Safe for concurrent use.
type State struct {
	component *components.Component[Driver]
}

// New puts the front before a component.
func New(c *components.Component[Driver]) *State { return &State{component: c} }

// Named says of an error in a request, found before the call, which component the request was for.
func (s *State) Named(err error) error { return s.component.Named(err) }

// Get fails with ErrNotFound if the caller has no such key or it has expired. The item belongs to the caller.
func (s *State) Get(ctx context.Context, caller components.Caller, key string) (item Item, err error) {
	call, err := s.component.Begin(ctx, "get")
	if err != nil {
		return Item{}, err
	}
	defer call.End(&err)
	stored, err := caller.StoredKey(key)
	if err != nil {
		return Item{}, err
	}
	return call.Driver.Get(ctx, stored)
}

// Peek is Get where nothing may wait, such as on the reader of a connection: false if the driver would have to, or if Get would fail.
func (s *State) Peek(ctx context.Context, caller components.Caller, key string) (item Item, ok bool) {
	call, ok := s.component.Glance(ctx, "get")
	if !ok {
		return Item{}, false
	}
	d, ok := call.Driver.(Peeker)
	if ok {
		var stored string
		var err error
		if stored, err = caller.StoredKey(key); err == nil {
			item, ok = d.Peek(ctx, stored)
		} else {
			ok = false
		}
	}
	call.EndGlance(ok)
	return item, ok
}

// Set stores an item and answers its version. It fails with ErrConflict or ErrExists when the condition does not hold, and with
// ErrPrecondition, reason STALE_FENCE, when the fence is older than one that was seen. The item is only lent: value and
// metadata may be overwritten once Set has returned.
func (s *State) Set(ctx context.Context, caller components.Caller, key string, item Item, when Condition, fence Fence) (
	version string, err error,
) {
	r, err := s.one(ctx, "set", caller, Operation{Kind: Set, Key: key, Item: item, Condition: when}, fence)
	if err != nil {
		return "", err
	}
	return r.Versions[0], nil
}

// SetLater is Set for who must not wait: begin has done called once with what Set would answer, by any goroutine, perhaps at once;
// done waits for nothing, and the item is lent until then. begin has to be called, once. Without it (nil) Set has to be called after
// all: the driver has no such way, all the component's places are taken, or there is something wrong, which Set will say.
func (s *State) SetLater(ctx context.Context, caller components.Caller, key string, item Item, when Condition, fence Fence) (
	begin func(done func(version string, err error)),
) {
	t, err := stored(caller, Transaction{Operations: []Operation{{Kind: Set, Key: key, Item: item, Condition: when}}, Fence: fence})
	if err != nil {
		return nil
	}
	call, ok := s.component.TryBegin(ctx, "set")
	if !ok {
		return nil
	}
	d, ok := call.Driver.(LaterTransactor)
	if !ok || s.offered(call.Driver, t) != nil {
		call.Withdraw()
		return nil
	}
	return func(done func(string, error)) {
		end := func(r Result, err error) {
			if r, err = checked(r, err, t); err == nil {
				call.End(&err)
				done(r.Versions[0], nil)
				return
			}
			err = alone(err)
			call.End(&err)
			done("", err)
		}
		if !d.TransactLater(ctx, t, end) {
			go func() { end(call.Driver.Transact(ctx, t)) }()
		}
	}
}

// Delete removes a key. That it was absent is no error, unless a version is asked for: then it is ErrConflict. Fences are as for Set.
func (s *State) Delete(ctx context.Context, caller components.Caller, key, ifVersion string, fence Fence) error {
	_, err := s.one(ctx, "delete", caller, Operation{Kind: Delete, Key: key, Condition: Condition{IfVersion: ifVersion}}, fence)
	return err
}

// one makes a transaction of one operation, whose error is the call's.
func (s *State) one(ctx context.Context, name string, caller components.Caller, op Operation, fence Fence) (r Result, err error) {
	call, err := s.component.Begin(ctx, name)
	if err != nil {
		return Result{}, err
	}
	defer call.End(&err)
	r, err = s.transact(ctx, call.Driver, caller, Transaction{Operations: []Operation{op}, Fence: fence})
	return r, alone(err)
}

// alone is the error of a call whose transaction was one operation.
func alone(err error) error {
	if o := (*OperationError)(nil); errors.As(err, &o) {
		return o.Err
	}
	return err
}

// Transact does all operations or none. An operation that does not hold fails it with the kind that it would fail with alone, and
// metadata say which one it was: "operation", counted from 0. A barrier's or an idempotency key's repeat is not done again; see
// Driver.Transact. The transaction is only lent.
func (s *State) Transact(ctx context.Context, caller components.Caller, t Transaction) (r Result, err error) {
	call, err := s.component.Begin(ctx, "transact")
	if err != nil {
		return Result{}, err
	}
	defer call.End(&err)
	r, err = s.transact(ctx, call.Driver, caller, t)
	if o := (*OperationError)(nil); errors.As(err, &o) {
		err = o.Named()
	}
	return r, err
}

func (s *State) transact(ctx context.Context, d Driver, caller components.Caller, t Transaction) (Result, error) {
	t, err := stored(caller, t)
	if err != nil {
		return Result{}, err
	}
	if err := s.offered(d, t); err != nil {
		return Result{}, err
	}
	guarded := t.Barrier != Barrier{}
	if guarded {
		failpoint.Hit("participant.barrier", "asked")
	}
	r, err := d.Transact(ctx, t)
	if guarded {
		failpoint.Hit("participant.barrier", "passed")
	}
	return checked(r, err, t)
}

// checked is what a driver has answered, if it can be that.
func checked(r Result, err error, t Transaction) (Result, error) {
	if err == nil && (r.Outcome == Applied || t.Barrier == Barrier{}) && len(r.Versions) != len(t.Operations) {
		return Result{}, wrongCount(len(r.Versions), len(t.Operations))
	}
	return r, err
}

func (s *State) offered(d Driver, t Transaction) error {
	r, ok := d.(Restricted)
	if !ok {
		return nil
	}
	for _, need := range []struct {
		feature Feature
		is      bool
	}{{Many, len(t.Operations) > 1}, {Fencing, t.Fence != Fence{}}, {Barriers, t.Barrier != Barrier{}}, {Idempotency, t.IdempotencyKey != ""}} {
		if need.is && !r.Offers(need.feature) {
			return &components.Detail{Err: fmt.Errorf("%w: driver %q does not offer %q", components.ErrUnsupported, s.component.ID().Driver, need.feature),
				Metadata: map[string]string{"feature": string(need.feature)}}
		}
	}
	return nil
}
