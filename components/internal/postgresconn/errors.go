package postgresconn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// Code is the server's word for an error, of five characters; empty for one that is not its answer.
func Code(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

// Words of the server.
const (
	serializationFailure = "40001"
	deadlock             = "40P01"
	readOnlyTransaction  = "25006"
	noPrivilege          = "42501"
	lockTimeout          = "55P03"
	canceled             = "57014"
	noDatabase           = "3D000"
	undefinedTable       = "42P01"
	undefinedFunction    = "42883"
	undefinedObject      = "42704"

	// NumberOutOfRange is of a sum that no bigint can hold.
	NumberOutOfRange = "22003"
)

// away tells whether the server said that this connection is of no use any more: it stops, starts, or is not the primary.
func away(code string) bool {
	return strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "08") || code == readOnlyTransaction
}

// again tells whether the server did nothing of a statement, and may do it another time: it was in another's way.
func again(code string) bool { return code == serializationFailure || code == deadlock }

// translate says of an error of the server or of the way to it what the caller can do. It is of a statement that was not done.
func (c *Client) translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	code, where := Code(err), c.where
	var settings *unfit
	switch {
	case errors.As(err, &settings):
		return components.WithReason(fmt.Errorf("%w: %s: %s", components.ErrUnavailable, where, settings.why), backend.ReasonRefused, "address", where)
	case strings.HasPrefix(code, "28"), code == noPrivilege, code == noDatabase:
		return backend.Refused(where, err)
	case strings.HasPrefix(code, "53"):
		return fmt.Errorf("%w: %s: %w", components.ErrExhausted, where, err)
	case strings.HasPrefix(code, "XX00"):
		return fmt.Errorf("%w: %s: %w", components.ErrDamaged, where, err)
	case code == lockTimeout: // which is set to end with ctx, and may come a little before it
		return fmt.Errorf("%w: %s: %w", context.DeadlineExceeded, where, err)
	case code == "", away(code), again(code), code == canceled:
		return backend.Unreachable(ctx, where, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}
