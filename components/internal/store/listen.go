package store

import (
	"context"
	"errors"
	"io"
)

// Listen is what a handler does that goes on while the other side speaks: it runs talk, and has hear take what comes meanwhile, one
// message after the other; without hear that is passed over. talk's context ends when the other side has no more to say, its cause is
// io.EOF then, or with the stream. Listen answers talk's error, but nil for io.EOF. By then hear does nothing more, and nothing is to be sent
// any more.
func Listen[In, Out any](ctx context.Context, p Peer[In, Out], hear func(In), talk func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for {
			in, err := p.Recv()
			if err != nil {
				end(err)
				return
			}
			if hear != nil {
				hear(in)
			}
		}
	}()
	err := talk(ctx)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	select {
	case <-heard: // what ends the stream is said when the handler has done what it does then
	default:
		if !errors.Is(context.Cause(ctx), io.EOF) { // else it is about to be
			p.finish(err)
		}
	}
	<-heard
	return err
}
