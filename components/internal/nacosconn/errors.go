package nacosconn

import (
	"context"
	"errors"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// Codes of answers.
const (
	codeSuccess       = 200
	codeInvalid       = 400
	codeUnregistered  = 301
	codeDenied        = 403
	codeOverThreshold = 503

	// CodeAbsent is of a question for a configuration that is not there.
	CodeAbsent = 300
)

// Told is what a server has answered instead of doing it.
type Told struct {
	Code int
	Text string
}

func (t *Told) Error() string { return fmt.Sprintf("it answers code %d: %s", t.Code, t.Text) }

// kind says of an answer what its caller can do.
func (t *Told) kind(address string) error {
	address = "nacos " + address
	switch t.Code {
	case codeDenied:
		return backend.Refused(address, t)
	case codeInvalid:
		return fmt.Errorf("%w: %s: %w", components.ErrInvalid, address, t)
	case codeOverThreshold:
		return fmt.Errorf("%w: %s: %w", components.ErrExhausted, address, t)
	}
	return components.WithReason(fmt.Errorf("%w: %s: %w", components.ErrUnavailable, address, t), backend.ReasonUnreachable, "address", address)
}

// IsTold tells whether err is an answer with this code.
func IsTold(err error, code int) bool {
	var told *Told
	return errors.As(err, &told) && told.Code == code
}

// IsDenied tells whether err is that the server does not let who asks do this.
func IsDenied(err error) bool { return IsTold(err, codeDenied) }

// IsInvalid tells whether err is that the server does not take a value.
func IsInvalid(err error) bool { return IsTold(err, codeInvalid) }

// failed is of a question that has no answer.
func failed(ctx context.Context, address string, write bool, err error) error {
	if write {
		return backend.Unknown(ctx, "nacos "+address, err)
	}
	return backend.Unreachable(ctx, "nacos "+address, err)
}
