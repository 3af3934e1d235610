package local

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// The calls of the machine. One with an idempotency key may be made again.
var (
	getCall      = store.Unary[getIn, found]{Name: "state/get", Safe: true}
	peekCall     = store.Unary[getIn, found]{Name: "state/peek", Safe: true}
	getManyCall  = store.Unary[getManyIn, getManyOut]{Name: "state/get_many", Safe: true}
	listCall     = store.Unary[listIn, listOut]{Name: "state/list", Safe: true}
	transactCall = store.Unary[transactIn, transactOut]{Name: "state/transact"}
	repeatCall   = store.Unary[transactIn, transactOut]{Name: "state/repeat", Safe: true}
)

type getIn struct{ Key []byte }

// found is an item's record and what is left of its time; no record if there is none, or why it cannot be read.
type found struct {
	Record []byte
	TTL    time.Duration
	Fault  string
}

type (
	getManyIn  struct{ Keys [][]byte }
	getManyOut struct{ Items []found }
)

type listIn struct {
	Prefix, After []byte // keys of records
	Limit         int
	Values        bool
}

type listed struct {
	Key []byte
	found
}

type listOut struct {
	Entries []listed
	More    bool
}

// operation has the keys and the record as they are stored, the record's head yet to be filled.
type operation struct {
	Kind      state.Kind
	Key       []byte
	Record    []byte
	TTL       time.Duration
	IfVersion string
	IfAbsent  bool
}

// claim is a record's key, empty for none, and how long it is kept.
type claim struct {
	Key  []byte
	Keep time.Duration // 0: for ever
}

type transactIn struct {
	Durability  db.Durability
	Operations  []operation
	Fence       claim
	Token       uint64
	Barrier     claim
	Forward     []byte // the key of the barrier that this one takes back
	Idempotency claim
	Digest      []byte
}

type transactOut struct {
	Outcome  state.Outcome
	Versions []string
}

func (d *driver) key(kind byte, parts ...string) []byte {
	n := 1 + len(d.name)
	for _, p := range parts {
		n += len(p)
	}
	b := append(append(make([]byte, 0, n), kind), d.name...)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// Get implements state.Driver.
func (d *driver) Get(ctx context.Context, key string) (state.Item, error) {
	in := getIn{d.key(items, key)}
	out, err := getCall.Call(ctx, d.Link, in)
	if err != nil {
		return state.Item{}, err
	}
	return out.item(in.Key)
}

// Peek implements state.Peeker.
func (d *driver) Peek(ctx context.Context, key string) (state.Item, bool) {
	in := getIn{d.key(items, key)}
	out, asked, err := peekCall.Here(ctx, d.Link, in)
	if !asked || err != nil || out.Record == nil {
		return state.Item{}, false
	}
	item, err := out.item(in.Key)
	return item, err == nil
}

func (f found) item(key []byte) (state.Item, error) {
	switch {
	case f.Fault != "":
		return state.Item{}, &fault{f.Fault}
	case f.Record == nil:
		return state.Item{}, components.ErrNotFound
	}
	item, err := decodeItem(f.Record)
	if err != nil {
		return state.Item{}, unreadable(key, err)
	}
	item.TTL = f.TTL
	return item, nil
}

// fault is the error of an item that the machine could not read.
type fault struct{ text string }

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return components.ErrDamaged }

// GetMany implements state.ManyGetter.
func (d *driver) GetMany(ctx context.Context, keys []string) ([]state.GetResult, error) {
	in := getManyIn{make([][]byte, len(keys))}
	for i, key := range keys {
		in.Keys[i] = d.key(items, key)
	}
	out, err := getManyCall.Call(ctx, d.Link, in)
	if err != nil {
		return nil, err
	}
	results := make([]state.GetResult, len(out.Items))
	for i, f := range out.Items {
		results[i].Item, results[i].Err = f.item(in.Keys[i])
	}
	return results, nil
}

// List implements state.Driver.
func (d *driver) List(ctx context.Context, prefix, after string, limit int, values bool) ([]state.Entry, bool, error) {
	in := listIn{Prefix: d.key(items, prefix), Limit: limit, Values: values}
	if after != "" {
		in.After = d.key(items, after)
	}
	out, err := listCall.Call(ctx, d.Link, in)
	if err != nil {
		return nil, false, err
	}
	entries := make([]state.Entry, len(out.Entries))
	for i, e := range out.Entries {
		entries[i].Key = string(e.Key[1+len(d.name):])
		if entries[i].Item, err = e.item(e.Key); err != nil {
			return nil, false, err
		}
	}
	return entries, out.More, nil
}

// Transact implements state.Driver.
func (d *driver) Transact(ctx context.Context, t state.Transaction) (state.Result, error) {
	in, call := d.request(t)
	out, err := call.Call(ctx, d.Link, in)
	return state.Result{Outcome: out.Outcome, Versions: out.Versions}, blamed(err)
}

// TransactLater implements state.LaterTransactor.
func (d *driver) TransactLater(ctx context.Context, t state.Transaction, done func(state.Result, error)) bool {
	in, call := d.request(t)
	return call.Later(ctx, d.Link, in, func(out transactOut, err error) {
		done(state.Result{Outcome: out.Outcome, Versions: out.Versions}, blamed(err))
	})
}

// request does what can be done before it is the transaction's turn.
func (d *driver) request(t state.Transaction) (in transactIn, call store.Unary[transactIn, transactOut]) {
	in = transactIn{Durability: db.Durability(d.options.Durability), Operations: make([]operation, len(t.Operations))}
	for i := range t.Operations {
		op := &t.Operations[i]
		in.Operations[i] = operation{Kind: op.Kind, Key: d.key(items, op.Key), TTL: op.Item.TTL, IfVersion: op.IfVersion, IfAbsent: op.IfAbsent}
		if op.Kind == state.Set {
			in.Operations[i].Record = encodeItem(&op.Item)
		}
	}
	if f := t.Fence; f != (state.Fence{}) {
		in.Fence, in.Token = claim{d.key(fences, f.Component, "\x00", f.Name), d.options.Fences}, f.Token
	}
	if b := t.Barrier; b != (state.Barrier{}) {
		in.Barrier = claim{d.barrier(b), d.options.Barriers}
		if forward, compensates := b.Forward(); compensates {
			in.Forward = d.barrier(forward)
		}
	}
	if t.IdempotencyKey == "" {
		return in, transactCall
	}
	in.Idempotency, in.Digest = claim{d.key(answers, t.IdempotencyKey), d.options.Idempotency}, []byte(t.Digest)
	return in, repeatCall
}

func (d *driver) barrier(b state.Barrier) []byte {
	return d.key(barriers, b.GID, "\x00", b.Branch, "\x00", b.Op)
}

// operationKey is where the machine's error says which operation it is of, since only details pass between processes.
const operationKey = "operation"

func blame(i int, err error) error {
	return components.WithReason(err, "", operationKey, strconv.Itoa(i))
}

func blamed(err error) error {
	d := (*components.Detail)(nil)
	if !errors.As(err, &d) || d.Metadata[operationKey] == "" {
		return err
	}
	i, broken := strconv.Atoi(d.Metadata[operationKey])
	if broken != nil {
		return err
	}
	return &state.OperationError{Index: i, Err: d.Err}
}
