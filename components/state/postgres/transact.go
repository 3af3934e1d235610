package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/state"
)

const transactSQL = `select fault, place, detail, outcome, versions from state_transact($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
	$14, $15, $16, $17, $18, $19, $20)`

// Transact calls the function of the same name at the server.
func (d *driver) Transact(ctx context.Context, t state.Transaction) (state.Result, error) {
	s, err := d.statement(ctx, t)
	if err != nil {
		return state.Result{}, err
	}
	var fault, detail, outcome *string
	var place *int
	var versions []string
	s.Row = postgresconn.Scan(&fault, &place, &detail, &outcome, &versions)
	if err := d.Do(ctx, s); err != nil {
		return state.Result{}, err
	}
	if fault != nil {
		return state.Result{}, refusal(t, *fault, place, detail)
	}
	r := state.Result{Versions: versions}
	if outcome != nil {
		r.Outcome = state.Outcome(*outcome)
	}
	return r, nil
}

// statement is a transaction as the server takes it.
func (d *driver) statement(ctx context.Context, t state.Transaction) (s postgresconn.Statement, err error) {
	n := len(t.Operations)
	kinds, keys, versions, absents := make([]int32, n), make([]string, n), make([]string, n), make([]bool, n)
	values, attributes, ttls := make([][]byte, n), make([][]byte, n), make([]int64, n)
	var locks []int64
	for i, op := range t.Operations {
		kinds[i], keys[i], versions[i], absents[i] = int32(op.Kind), d.name+op.Key, op.IfVersion, op.IfAbsent
		if values[i] = op.Item.Value; values[i] == nil {
			values[i] = []byte{}
		}
		if attributes[i], err = attributesOf(op.Item); err != nil {
			return s, err
		}
		ttls[i] = op.Item.TTL.Milliseconds()
		locks = append(locks, d.LockID("item", keys[i]))
		s.Bytes += len(values[i]) + len(attributes[i]) + len(keys[i])
	}
	var answer, digest, gid, branch, op, forward, fence, token any
	if t.IdempotencyKey != "" {
		answer, digest = d.name+t.IdempotencyKey, []byte(t.Digest)
		locks = append(locks, d.LockID("answer", d.name+t.IdempotencyKey))
	}
	if b := t.Barrier; b != (state.Barrier{}) {
		gid, branch, op = d.name+b.GID, b.Branch, b.Op
		if f, back := b.Forward(); back {
			forward = f.Op
		}
		locks = append(locks, d.LockID("branch", d.name+b.GID, b.Branch))
	}
	if f := t.Fence; f != (state.Fence{}) {
		name := d.name + f.Component + "/" + f.Name
		fence, token = name, strconv.FormatUint(f.Token, 10)
		locks = append(locks, d.LockID("fence", name))
	}
	slices.Sort(locks)
	s.SQL, s.Write = transactSQL, true
	s.Args = []any{slices.Compact(locks), postgresconn.Patience(ctx), answer, digest, d.options.Idempotency.Milliseconds(), gid, branch, op, forward, d.options.Barriers.Milliseconds(),
		fence, token, d.options.Fences.Milliseconds(), kinds, keys, versions, absents, values, attributes, ttls}
	return s, nil
}

// refusal is the error of what the server found not to hold.
func refusal(t state.Transaction, fault string, place *int, detail *string) error {
	text := ""
	if detail != nil {
		text = *detail
	}
	var err error
	switch fault {
	case "reused":
		return state.KeyReused()
	case "stale":
		newest, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: a token of %q", components.ErrDamaged, text)
		}
		return state.StaleFence(t.Fence.Token, newest)
	case "exists":
		err = fmt.Errorf("%w: the key is there", components.ErrExists)
	case "conflict":
		if err = fmt.Errorf("%w: the key is not there", components.ErrConflict); text != "" {
			err = fmt.Errorf("%w: the key is there in version %s", components.ErrConflict, text)
		}
	}
	if err == nil || place == nil {
		return fmt.Errorf("the server found the fault %q", fault)
	}
	return &state.OperationError{Index: *place, Err: err}
}
