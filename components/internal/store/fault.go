package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// Reasons of calls that the store could not answer. Those of a full or failed disk are the db's.
const (
	ReasonOwnerLost      components.Reason = "STORE_OWNER_LOST"
	ReasonOwnerStuck     components.Reason = "STORE_OWNER_STUCK"
	ReasonOutcomeUnknown                   = db.ReasonOutcomeUnknown
	ReasonOtherVersion   components.Reason = "STORE_OTHER_VERSION"
)

func unavailable(reason components.Reason, text string, args ...any) error {
	return &components.Detail{Err: fmt.Errorf("%w: "+text, append([]any{components.ErrUnavailable}, args...)...),
		Reason: reason, RetryAfter: 200 * time.Millisecond}
}

var (
	errLost = unavailable(ReasonOwnerLost, "the process that owned the store has gone, and another takes over")
	// errNotBegun is of calls that the owner did not begin, so that they can be made again.
	errNotBegun = errors.New("the store did not begin this call")
)

func stuck(o Owner) error {
	return unavailable(ReasonOwnerStuck, "process %d owns the store and does not answer: it is stopped or hangs; continue it (kill -CONT %d) or end it (kill -KILL %d), "+
		"and another takes over", o.PID, o.PID, o.PID)
}

// fault is an error on its way between processes.
type fault struct {
	Text   string
	Kinds  []string `cbor:",omitempty"`
	Layers []layer  `cbor:",omitempty"` // the details, outermost first
}

type layer struct {
	Reason     string            `cbor:",omitempty"`
	Metadata   map[string]string `cbor:",omitempty"`
	RetryAfter time.Duration     `cbor:",omitempty"`
}

// kinds are the errors that the other side tells apart, by names that stay.
var kinds = map[string]error{
	"not_found": components.ErrNotFound, "exists": components.ErrExists, "conflict": components.ErrConflict, "aborted": components.ErrAborted,
	"invalid": components.ErrInvalid, "precondition": components.ErrPrecondition, "unsupported": components.ErrUnsupported,
	"exhausted": components.ErrExhausted, "denied": components.ErrDenied, "unauthenticated": components.ErrUnauthenticated,
	"unavailable": components.ErrUnavailable, "damaged": components.ErrDamaged,
	"canceled": context.Canceled, "deadline": context.DeadlineExceeded, "not_begun": errNotBegun, "closed": db.ErrClosed,
}

func encodeFault(err error) fault {
	f := fault{Text: err.Error()}
	for name, kind := range kinds {
		if errors.Is(err, kind) {
			f.Kinds = append(f.Kinds, name)
		}
	}
	for d := (*components.Detail)(nil); errors.As(err, &d); err = d.Err {
		f.Layers = append(f.Layers, layer{string(d.Reason), d.Metadata, d.RetryAfter})
	}
	return f
}

// told is an error that another process found.
type told struct {
	text  string
	kinds []error
}

func (t *told) Error() string   { return t.text }
func (t *told) Unwrap() []error { return t.kinds }

func (f fault) decode() (err error) {
	t := &told{text: f.Text}
	for _, name := range f.Kinds {
		if kind, known := kinds[name]; known {
			t.kinds = append(t.kinds, kind)
		}
	}
	err = t
	if len(t.kinds) == 1 && t.kinds[0].Error() == t.text {
		err = t.kinds[0] // fronts compare with what has no more to say
	}
	for i := len(f.Layers) - 1; i >= 0; i-- {
		l := f.Layers[i]
		err = &components.Detail{Err: err, Reason: components.Reason(l.Reason), Metadata: l.Metadata, RetryAfter: l.RetryAfter}
	}
	return err
}
