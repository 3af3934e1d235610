package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/state"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
)

func (m *machine) transact(ctx context.Context, in transactIn) (transactOut, error) {
	var out transactOut
	if err := m.space.Update(ctx, in.Durability, m.work(&in, &out)); err != nil {
		return transactOut{}, err
	}
	in.passed("stored")
	return out, nil
}

// passed is reached by those with a barrier.
func (in *transactIn) passed(what string) {
	if len(in.Barrier.Key) > 0 {
		failpoint.Hit("participant.barrier", what)
	}
}

func (m *machine) transactLater(ctx context.Context, in transactIn, done func(transactOut, error)) {
	out := new(transactOut)
	m.space.UpdateLater(ctx, in.Durability, m.work(&in, out), func(err error) {
		if err != nil {
			out = &transactOut{}
		}
		in.passed("stored")
		done(*out, err)
	})
}

func (m *machine) work(in *transactIn, out *transactOut) func(*db.Tx) error {
	return func(tx *db.Tx) (err error) {
		w := work{Tx: tx, now: tx.Now(), machine: m}
		*out, err = w.do(in)
		return err
	}
}

// work is a transaction under way.
type work struct {
	*db.Tx
	now     db.Time
	machine *machine
	touched []*hotShard
}

func (w *work) do(in *transactIn) (out transactOut, err error) {
	if len(in.Idempotency.Key) > 0 {
		if out, repeated, err := w.answered(in); repeated || err != nil {
			return out, err
		}
	}
	if out.Outcome, err = w.pass(in); err != nil {
		return out, err
	}
	in.passed("claimed")
	if out.Outcome == state.Applied {
		if err := w.fence(in); err != nil {
			return out, err
		}
		if out.Versions, err = w.apply(in.Operations); err != nil {
			return out, err
		}
	}
	if len(in.Idempotency.Key) > 0 {
		err = w.remember(in.Idempotency, encodeAnswer(in.Digest, out))
	}
	return out, err
}

// old is what is known of a record before it is written.
type old struct {
	head
	there bool // and has not expired
	index db.Time
	rest  []byte // of a record of which it was asked for
}

// look looks at a record; with content it copies what follows the head.
func (w *work) look(key []byte, content bool) (o old, err error) {
	_, failed := w.Look(key, func(record []byte) {
		if o.head, err = headOf(record); err != nil {
			err = unreadable(key, err)
			return
		}
		o.index, o.there = o.deadline, !o.expired(w.now)
		if content {
			o.rest = append([]byte(nil), record...)
		}
	})
	if failed != nil {
		err = failed
	}
	return o, err
}

// write writes a record whose head is still to be filled, in place of an old one.
func (w *work) write(key, record []byte, h head, o old) {
	h.put(record)
	w.Set(key, record)
	if o.index != h.deadline {
		w.drop(o.index, key)
		if h.deadline != 0 {
			w.Set(indexKey(h.deadline, key), nil)
		}
	}
}

func (w *work) drop(index db.Time, key []byte) {
	if index != 0 {
		w.Delete(indexKey(index, key))
	}
}

// remember writes one of the records that are kept for a time.
func (w *work) remember(c claim, record []byte) error {
	o, err := w.look(c.Key, false)
	if err != nil {
		return err
	}
	w.write(c.Key, record, head{deadline: deadline(w.now, c.Keep)}, o)
	return nil
}

// answered is what an idempotency key was answered before.
func (w *work) answered(in *transactIn) (out transactOut, repeated bool, err error) {
	o, err := w.look(in.Idempotency.Key, true)
	if err != nil || !o.there {
		return out, false, err
	}
	digest, out, err := decodeAnswer(o.rest)
	switch {
	case err != nil:
		err = unreadable(in.Idempotency.Key, err)
	case digest != string(in.Digest):
		err = state.KeyReused()
	}
	return out, true, err
}

// Who claimed a barrier's record.
const (
	byItself    = 1
	byOtherCall = 2
)

// pass claims the records of the barrier.
func (w *work) pass(in *transactIn) (state.Outcome, error) {
	if len(in.Barrier.Key) == 0 {
		return state.Applied, nil
	}
	own, err := w.look(in.Barrier.Key, true)
	if err != nil {
		return "", err
	}
	if own.there {
		if len(own.rest) > headBytes && own.rest[headBytes] == byOtherCall {
			return state.Suspended, nil
		}
		return state.Repeated, nil
	}
	w.claim(in.Barrier, byItself, own)
	if len(in.Forward) == 0 {
		return state.Applied, nil
	}
	taken, err := w.look(in.Forward, false)
	if err != nil || taken.there {
		return state.Applied, err
	}
	w.claim(claim{in.Forward, in.Barrier.Keep}, byOtherCall, taken)
	return state.Empty, nil
}

func (w *work) claim(c claim, by byte, o old) {
	record := append(make([]byte, headBytes, headBytes+1), by)
	w.write(c.Key, record, head{deadline: deadline(w.now, c.Keep)}, o)
}

// fence refuses a token older than the newest seen, and remembers one that is newer. One that is in use is not written at
// each use, but so often that it is not forgotten.
func (w *work) fence(in *transactIn) error {
	if len(in.Fence.Key) == 0 {
		return nil
	}
	o, err := w.look(in.Fence.Key, true)
	if err != nil {
		return err
	}
	var newest uint64
	if o.there && len(o.rest) >= headBytes+8 {
		newest = binary.BigEndian.Uint64(o.rest[headBytes:])
	}
	switch {
	case in.Token < newest:
		return state.StaleFence(in.Token, newest)
	case in.Token == newest && (o.deadline == 0 || in.Fence.Keep != 0 && o.left(w.now) > in.Fence.Keep/2):
		return nil
	}
	record := binary.BigEndian.AppendUint64(make([]byte, headBytes, headBytes+8), in.Token)
	w.write(in.Fence.Key, record, head{deadline: deadline(w.now, in.Fence.Keep)}, o)
	return nil
}

func (w *work) apply(operations []operation) (versions []string, err error) {
	versions = make([]string, len(operations))
	for i := range operations {
		op := &operations[i]
		o, err := w.look(op.Key, false)
		if err != nil && !(errors.Is(err, components.ErrDamaged) && op.blind()) {
			return nil, blame(i, err)
		}
		if err := op.holds(o); err != nil {
			return nil, blame(i, err)
		}
		if op.Kind != state.Check {
			w.touch(op.Key)
		}
		switch op.Kind {
		case state.Set:
			h := head{deadline(w.now, op.TTL), w.NextID(), w.machine.salt}
			w.write(op.Key, op.Record, h, o)
			versions[i] = h.version()
		case state.Delete:
			w.Delete(op.Key)
			w.drop(o.index, op.Key)
		}
	}
	return versions, nil
}

// touch keeps what is hot from answering for an item that is being written.
func (w *work) touch(key []byte) {
	shard := w.machine.hot.shard(key)
	shard.touch(key)
	if w.touched = append(w.touched, shard); len(w.touched) == 1 {
		w.Finally(func() {
			for _, s := range w.touched {
				s.settle()
			}
		})
	}
}

// blind tells whether the operation is the same whatever is there, so that it may take the place of what cannot be read.
func (op *operation) blind() bool {
	return op.Kind != state.Check && op.IfVersion == "" && !op.IfAbsent
}

// holds checks the operation's condition.
func (op *operation) holds(o old) error {
	switch {
	case op.IfAbsent && o.there:
		return fmt.Errorf("%w: the key is there", components.ErrExists)
	case op.IfVersion != "" && !o.there:
		return fmt.Errorf("%w: the key is not there", components.ErrConflict)
	case op.IfVersion != "" && op.IfVersion != o.version():
		return fmt.Errorf("%w: the key is there in version %s", components.ErrConflict, o.version())
	}
	return nil
}
