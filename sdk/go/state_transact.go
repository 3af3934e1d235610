package client

import (
	"context"
	"strconv"
	"strings"

	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
)

// Operation is one step of a Transaction: SetKey, DeleteKey or CheckKey.
type Operation struct {
	proto *statev1.Operation
	err   error
}

// SetKey stores an item, if it may.
func SetKey(key string, item Item, when ...Condition) Operation {
	c, err := only(when)
	return Operation{&statev1.Operation{Operation: &statev1.Operation_Set_{Set: &statev1.Operation_Set{Key: key, Value: item.Value,
		ContentType: item.ContentType, Ttl: ttl(item.TTL), Metadata: item.Metadata, Condition: c.state()}}}, err}
}

// DeleteKey removes a key; that it was absent is no error unless a version is asked for.
func DeleteKey(key string, when ...IfVersion) Operation {
	version, err := onlyVersion(when)
	return Operation{&statev1.Operation{Operation: &statev1.Operation_Delete_{Delete: &statev1.Operation_Delete{Key: key, IfVersion: version}}}, err}
}

// CheckKey changes nothing, and has to hold for the other operations to happen.
func CheckKey(key string, when Condition) Operation {
	c, err := only([]Condition{when})
	return Operation{&statev1.Operation{Operation: &statev1.Operation_Check_{Check: &statev1.Operation_Check{Key: key, Condition: c.state()}}}, err}
}

// Barrier makes a transaction of the store happen once for a branch of a distributed transaction, whatever is repeated, comes late or
// never came. Op is what the branch was called for: "action" or "compensation", "try", "confirm" or "cancel".
type Barrier struct{ GID, Branch, Op string }

// Transaction is up to 100 operations on different keys that happen all or not at all.
type Transaction struct {
	Operations []Operation
	Fence      *Fence
	Barrier    *Barrier
	// The same key gives the first answer again for the component's time, 24 h; with other operations it is ErrExists, reason
	// IDEMPOTENCY_KEY_REUSED. A call that failed in a way that leaves open whether it happened can be made again with it.
	IdempotencyKey string
}

// Outcome is what became of a transaction that did not fail.
type Outcome string

// The outcomes. All but Applied are answers to a Barrier, and nothing was done.
const (
	Applied   Outcome = "APPLIED"
	Repeated  Outcome = "REPEATED"  // it was done for this branch before
	Empty     Outcome = "EMPTY"     // a compensation or cancel of what never came
	Suspended Outcome = "SUSPENDED" // what has been compensated or cancelled already
)

// Transacted is what a Transaction came to.
type Transacted struct {
	Outcome  Outcome
	Versions []string // for each operation the new version if it sets, and empty otherwise; none unless Applied
}

// Transact does all operations or none. If one does not hold the error is what that one would fail with alone, and FailedOperation
// tells which one it was.
func (s *State) Transact(ctx context.Context, t Transaction) (Transacted, error) {
	in := &statev1.TransactRequest{Component: s.component, IdempotencyKey: t.IdempotencyKey}
	for _, op := range t.Operations {
		if op.err != nil {
			return Transacted{}, op.err
		}
		in.Operations = append(in.Operations, op.proto)
	}
	if t.Fence != nil {
		in.Fence = t.Fence.proto()
	}
	if b := t.Barrier; b != nil {
		in.Barrier = &statev1.Barrier{Gid: b.GID, Branch: b.Branch, Op: b.Op}
	}
	r, err := s.api.Transact(ctx, in)
	if err != nil {
		return Transacted{}, err
	}
	return Transacted{Outcome(strings.TrimPrefix(r.GetOutcome().String(), "OUTCOME_")), r.GetVersions()}, nil
}

// FailedOperation tells which operation of a transaction did not hold, counted from 0; false if the error is of none.
func FailedOperation(err error) (index int, ok bool) {
	info, _ := details(err)
	index, parse := strconv.Atoi(info.GetMetadata()["operation"])
	return index, parse == nil
}
