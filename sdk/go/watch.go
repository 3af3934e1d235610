package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// longestPause bounds what a server can ask a watch to wait before it resumes.
const longestPause = 30 * time.Second

// opener begins a stream.
type opener[T any] func(context.Context) (grpc.ServerStreamingClient[T], error)

// watch reads streams that open makes, one after the other, until handle wants no more (then it answers nil), ctx or the client
// ends, or a stream fails in a way that asking again cannot mend.
func watch[T any](ctx context.Context, c *Client, what string, open opener[T], handle func(*T) (more bool)) error {
	for pause := (backoff{}); ; {
		err := read(ctx, open, func(m *T) bool {
			pause = backoff{}
			return handle(m)
		})
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
		d := pause.next()
		if after, ok := RetryAfter(err); ok {
			d = min(max(d, after), longestPause)
		}
		c.log.DebugContext(ctx, "watch resumes", "capability", what, "op", "watch", "after", d, "err", err)
		sleep(ctx, c.done, d) // that it was cut short shows in the next round
	}
}

// read is one stream. It answers nil if handle has had enough, else why the stream ended.
func read[T any](ctx context.Context, open opener[T], handle func(*T) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := open(ctx)
	if err != nil {
		return err
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if !handle(m) {
			return nil
		}
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
