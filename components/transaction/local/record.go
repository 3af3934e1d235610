package local

import (
	"fmt"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// content is a transaction as it was begun; branches of TCC are added.
type content struct {
	transaction.Content
	Retention time.Duration `cbor:"16,keyasint,omitempty"` // how long it is kept when it has ended
}

// run is what has become of a transaction. What has type db.Time is by the store's clock.
type run struct {
	State    transaction.State `cbor:"1,keyasint"`
	Reason   string            `cbor:"2,keyasint,omitempty"`
	Failed   string            `cbor:"3,keyasint,omitempty"` // the branch
	Began    time.Time         `cbor:"4,keyasint"`           // by the wall clock, for people
	Ended    time.Time         `cbor:"5,keyasint,omitzero"`
	Start    db.Time           `cbor:"6,keyasint"`
	Deadline db.Time           `cbor:"7,keyasint"`
	Over     db.Time           `cbor:"8,keyasint,omitempty"` // until when it is kept
	Check    progress          `cbor:"9,keyasint,omitzero"`
	// Unsure: a saga's actions may have been called of which this does not know, since progress is lost with who drives, or with the power.
	Unsure   bool       `cbor:"11,keyasint,omitempty"`
	Branches []progress `cbor:"10,keyasint,omitempty"` // in the content's order
}

// progress is what has become of a branch.
type progress struct {
	Forward  outcome `cbor:"1,keyasint,omitempty"` // of the action, try or delivery
	Second   outcome `cbor:"2,keyasint,omitempty"` // of the call that confirms it or takes it back
	Attempts int     `cbor:"3,keyasint,omitempty"` // that ended without a known outcome, at the call that is to be made
	Last     string  `cbor:"4,keyasint,omitempty"` // what the last of them came to
	Next     db.Time `cbor:"5,keyasint,omitempty"` // not before this
}

type outcome uint8

const (
	unknown outcome = iota
	done
	failed
)

func contentKey(key string) []byte { return []byte("c" + key) }
func runKey(key string) []byte     { return []byte("r" + key) }

// overKey is where to find what is to be forgotten at some time.
func overKey(at db.Time, key string) []byte { return fmt.Appendf(nil, "x%016x%s", uint64(at), key) }

// reader is an update or a view.
type reader interface {
	Get(key []byte) (value []byte, ok bool, err error)
}

// find reads a transaction; false: there is none of that key.
func find(r reader, key string) (t *tx, ok bool, err error) {
	t = &tx{key: key}
	if ok, err = get(r, key, contentKey(key), &t.content); err != nil || !ok {
		return nil, false, err
	}
	if ok, err = get(r, key, runKey(key), &t.run); err == nil && (!ok || len(t.run.Branches) != len(t.content.Branches)) {
		err = store.Unreadable("transaction", name(key), fmt.Errorf("what became of it is not there, or is of another transaction"))
	}
	return t, err == nil, err
}

func get(r reader, key string, record []byte, into any) (bool, error) {
	raw, ok, err := r.Get(record)
	if err != nil || !ok {
		return false, err
	}
	return true, decode(key, raw, into)
}

func decode(key string, raw []byte, into any) error {
	if err := store.DecodeRecord(raw, into); err != nil {
		return store.Unreadable("transaction", name(key), err)
	}
	return nil
}

func put(w *db.Tx, key []byte, v any) error {
	raw, err := store.EncodeRecord(v)
	if err == nil {
		w.Set(key, raw)
	}
	return err
}

// name is what a key has behind the component.
func name(key string) string { return key[strings.IndexByte(key, '/')+1:] }

// application is C/NAMESPACE/APP/ of C/NAMESPACE/APP/GID; a gid has no slash.
func application(key string) string { return key[:strings.LastIndexByte(key, '/')+1] }

// told is the gid that branches are told.
func told(key string) string { return transaction.Told(componentOf(key), name(key)) }

func notFound(ok bool, err error) error {
	if err == nil && !ok {
		return transaction.NotFound()
	}
	return err
}

var errLease = components.WithReason(fmt.Errorf("%w: another sidecar drives the transaction, or it was changed meanwhile", components.ErrPrecondition),
	transaction.ReasonLeaseLost)
