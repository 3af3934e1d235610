package components

import (
	"errors"
	"sync/atomic"
	"time"
)

// The kinds of errors say what the caller can do. A driver wraps one with what the caller does not know:
//
//	fmt.Errorf("get %q: %w: %w", key, components.ErrUnavailable, err)
var (
	ErrNotFound        = errors.New("not found")
	ErrExists          = errors.New("exists already")
	ErrConflict        = errors.New("version mismatch")
	ErrAborted         = errors.New("rolled back")
	ErrInvalid         = errors.New("invalid argument")
	ErrPrecondition    = errors.New("precondition failed")
	ErrUnsupported     = errors.New("not supported")
	ErrExhausted       = errors.New("exhausted")
	ErrDenied          = errors.New("permission denied")
	ErrUnauthenticated = errors.New("unauthenticated")
	ErrUnavailable     = errors.New("unavailable") // the one that is worth a retry
	ErrDamaged         = errors.New("data damaged")
)

// Reason is what clients tell errors of one kind apart by. It travels as google.rpc.ErrorInfo, and docs/errors.md
// explains each one that is declared here or in another package.
type Reason string

// Detail adds to an error what a client may want to act on. Its text is that of the error it wraps. Many calls may be answered
// with the same one: once it is an error, it does not change.
type Detail struct {
	Err        error
	Reason     Reason            // empty: the one that belongs to the kind
	Metadata   map[string]string // keys are capability, component, driver, limit, hop, ...
	RetryAfter time.Duration     // when a retry may succeed; 0: not said

	of      ID // whose it was named as; zero: it was not
	encoded atomic.Pointer[any]
}

// Encoded is what encode makes of the error, and keeps it for the next call that is answered with the same error. There is
// one encoder in a process, that of the API.
func (d *Detail) Encoded(encode func(*Detail) any) any {
	if e := d.encoded.Load(); e != nil {
		return *e
	}
	e := encode(d)
	d.encoded.Store(&e)
	return e
}

func (d *Detail) Error() string { return d.Err.Error() }
func (d *Detail) Unwrap() error { return d.Err }

// WithReason gives err a reason; the pairs are keys and values of its metadata.
func WithReason(err error, reason Reason, pairs ...string) error {
	d := &Detail{Err: err, Reason: reason}
	for i := 0; i+1 < len(pairs); i += 2 {
		if d.Metadata == nil {
			d.Metadata = make(map[string]string, len(pairs)/2)
		}
		d.Metadata[pairs[i]] = pairs[i+1]
	}
	return d
}

// Reasons that belong to no single capability.
const (
	ReasonComponentNotFound Reason = "COMPONENT_NOT_FOUND"
	ReasonComponentNotReady Reason = "COMPONENT_NOT_READY"
	ReasonReloaded          Reason = "RELOADED"
	ReasonOverloaded        Reason = "OVERLOADED"
)
