package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// longestPause bounds what a server can ask for before the next try.
	longestPause = 30 * time.Second
	// lasting is how long a stream is there whose end says nothing against the next: pauses are short again.
	lasting = lastPause
)

// resume calls once, again after each end that trying again may mend: how all streams of this package survive the sidecar. It ends with
// nil when once does, with ErrClosed, with ctx's error, or with one that is as good as final.
func (c *Client) resume(ctx context.Context, capability, op string, once func(context.Context) error) error {
	for pause := (backoff{}); ; {
		began := time.Now()
		err := once(ctx)
		switch {
		case err == nil:
			return nil
		case c.closed():
			return ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		case !resumable(err):
			return err
		}
		if time.Since(began) >= lasting {
			pause = backoff{}
		}
		d := pause.next()
		if after, ok := RetryAfter(err); ok {
			d = min(max(d, after), longestPause)
		}
		c.log.DebugContext(ctx, "stream resumes", "capability", capability, "op", op, "after", d, "err", err)
		sleep(ctx, c.done, d) // that it was cut short shows in the next round
	}
}

// resumable tells whether a stream that ended so may go better the next time.
func resumable(err error) bool {
	if errors.Is(err, io.EOF) {
		return true
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.Unauthenticated,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented, codes.DataLoss:
		return false
	case codes.ResourceExhausted:
		_, overloaded := RetryAfter(err) // else something is too large, and will be again
		return overloaded
	default:
		return true
	}
}
