package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// The pauses before a stream that has ended with the owner of the store is opened again.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// Follow has what begin answers take what a stream says that is opened with in. When the owner of the store has changed both begin
// anew. It ends with ctx, with an error of take, and with the stream's if nothing was taken whole yet, or if it is no loss of the owner;
// take answers whether what the stream had to say to begin with has been taken.
func (b Bidi[In, Out]) Follow(ctx context.Context, l *Link, in In, begin func() (take func(Out) (whole bool, err error))) error {
	begun := false
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		whole, err := b.follow(ctx, l, in, begin())
		var own *refusal
		switch {
		case errors.As(err, &own):
			return own.error
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !begun && !whole || !errors.Is(err, components.ErrUnavailable):
			return err
		case whole:
			begun, pause = true, firstPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// refusal is an error of who takes what a stream says.
type refusal struct{ error }

func (b Bidi[In, Out]) follow(ctx context.Context, l *Link, in In, take func(Out) (bool, error)) (whole bool, err error) {
	s, err := b.Open(ctx, l)
	if err != nil {
		return false, err
	}
	defer s.Close()
	if err := s.Send(in); err != nil && !errors.Is(err, io.EOF) { // what it ended with Recv tells
		return false, err
	}
	for {
		out, err := s.Recv()
		if errors.Is(err, io.EOF) || err != nil && lost(err) {
			err = fmt.Errorf("%w: the stream has ended: %w", components.ErrUnavailable, err)
		}
		if err != nil {
			return whole, err
		}
		now, err := take(out)
		if err != nil {
			return whole, &refusal{err}
		}
		whole = whole || now
	}
}
