package state

import (
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/outrigger-mesh/outrigger/components"
)

// What clients tell errors apart by, besides the reasons of the kinds.
const (
	ReasonStaleFence components.Reason = "STALE_FENCE"
	ReasonKeyReused  components.Reason = "IDEMPOTENCY_KEY_REUSED"
	ReasonTooMuch    components.Reason = "RESULT_TOO_LARGE"
)

// OperationError says which operation of a transaction did not hold.
type OperationError struct {
	Index int
	Err   error
}

func (e *OperationError) Error() string { return fmt.Sprintf("operation %d: %s", e.Index, e.Err) }
func (e *OperationError) Unwrap() error { return e.Err }

// Named is the error as clients see it: metadata say which operation it is.
func (e *OperationError) Named() error {
	named := &components.Detail{Err: e, Metadata: map[string]string{}}
	if d := (*components.Detail)(nil); errors.As(e.Err, &d) {
		named.Reason, named.RetryAfter = d.Reason, d.RetryAfter
		maps.Copy(named.Metadata, d.Metadata)
	}
	named.Metadata["operation"] = strconv.Itoa(e.Index)
	return named
}

// StaleFence is the error of a fence that is older than the newest token seen.
func StaleFence(token, newest uint64) error {
	return components.WithReason(fmt.Errorf("%w: a write with token %d of the lock was seen, %d is older", components.ErrPrecondition, newest, token), ReasonStaleFence)
}

// KeyReused is the error of an idempotency key that came with other content before.
func KeyReused() error {
	return components.WithReason(fmt.Errorf("%w: the idempotency key was used for other operations", components.ErrExists), ReasonKeyReused)
}

// TooMuch is the error of a GetMany of more than ManyBytes.
func TooMuch() error {
	return components.WithReason(fmt.Errorf("%w: the items come to more than %d MiB", components.ErrExhausted, ManyBytes>>20), ReasonTooMuch, "limit", "many_bytes")
}

// wrongCount keeps a driver that answers too little from being read past its end.
func wrongCount(got, want int) error {
	return fmt.Errorf("the driver answered %d results for %d", got, want)
}
