package client

import (
	"context"
	"errors"

	"google.golang.org/grpc"
)

// opener begins a stream.
type opener[T any] func(context.Context) (grpc.ServerStreamingClient[T], error)

// errEnough is what handle answers when it wants no more.
var errEnough = errors.New("enough")

// watch reads streams that open makes, one after the other, until handle wants no more; then it answers nil. Another error of handle's ends
// the stream, as its own do.
func watch[T any](ctx context.Context, c *Client, capability string, open opener[T], handle func(*T) error) error {
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
			if err := handle(m); err == errEnough {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
}
