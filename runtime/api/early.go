package api

import (
	"context"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

var errLate = fmt.Errorf("the method has not finished: %w", context.DeadlineExceeded)

// early cancels a call a margin before its deadline, as the relay ends those that come through it, so that its caller hears a
// reason before its own timer ends the call. The deadline that ctx tells, and that goes on with calls to others, stays what it
// is. calm takes it back.
func early(ctx context.Context, cancel context.CancelCauseFunc) (calm func()) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return func() {}
	}
	left := time.Until(deadline)
	t := time.AfterFunc(left-grpcproxy.Margin(left), func() { cancel(errLate) })
	return func() { t.Stop() }
}
