package client

import (
	"context"

	"google.golang.org/grpc"
)

// opener begins a stream.
type opener[T any] func(context.Context) (grpc.ServerStreamingClient[T], error)

// watch reads streams that open makes, one after the other, until handle wants no more; then it answers nil.
func watch[T any](ctx context.Context, c *Client, capability string, open opener[T], handle func(*T) (more bool)) error {
	return c.resume(ctx, capability, "watch", func(ctx context.Context) error {
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
	})
}
