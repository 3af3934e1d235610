// Package sequence gives numbers that never repeat: increasing ones, or ones that are only unique, a row of them at a time.
//
// Each application has its own keys. Numbers begin at 1 or above. What a caller does not use, or does not get to know of, is gone:
// there are gaps. The two orders draw from the same numbers, so that none is given twice by asking in different ways.
package sequence

import (
	"context"
	"fmt"
	"math"

	"github.com/outrigger-mesh/outrigger/components"
)

// Drivers are those of this build.
var Drivers = components.NewRegistry[Driver]("sequence")

// MaxSize is how many numbers one call can ask for.
const MaxSize = 1_000_000

// ReasonExhausted is that the numbers of a key have come to their end.
const ReasonExhausted components.Reason = "SEQUENCE_EXHAUSTED"

// Driver is what a store implements. Keys and sizes (from 1 to MaxSize) have been checked. Safe for concurrent use.
type Driver interface {
	// Next answers the first of n numbers in a row, all of them at least 1 and greater than each that any client of the store had
	// got for this key before the call began. It fails with Exhausted if there are no more that an int64 can hold.
	Next(ctx context.Context, key string, n int64) (first int64, err error)
}

// Uniquer is a driver that can be cheaper where numbers need not grow. Otherwise the front uses Next.
type Uniquer interface {
	// Unique answers the first of n numbers in a row, at least 1, that neither it nor Next has given to anybody for this key, or
	// ever gives again.
	Unique(ctx context.Context, key string, n int64) (first int64, err error)
}

// Exhausted is the error for a key whose numbers have come to their end.
func Exhausted() error {
	return components.WithReason(fmt.Errorf("%w: the numbers of this key have come to their end", components.ErrExhausted), ReasonExhausted)
}

// Sequence is a sequence component as front-ends call it. All its errors wrap one of the kinds of components, or ctx's error,
// and name the component. Safe for concurrent use.
type Sequence struct {
	component *components.Component[Driver]
}

// New puts the front before a component.
func New(c *components.Component[Driver]) *Sequence { return &Sequence{component: c} }

// Named says of an error in a request, found before the call, which component the request was for.
func (s *Sequence) Named(err error) error { return s.component.Named(err) }

// Next answers size numbers in a row, from first to last, of which each is greater than any that had been got for this key before
// the call began. A size of 0 means 1. When it fails they may be gone.
func (s *Sequence) Next(ctx context.Context, caller components.Caller, key string, size int64) (first, last int64, err error) {
	return s.draw(ctx, "next", caller, key, size, Driver.Next)
}

// Unique answers size numbers in a row, from first to last, that nobody else gets, in no particular order. When it fails they may be
// gone.
func (s *Sequence) Unique(ctx context.Context, caller components.Caller, key string, size int64) (first, last int64, err error) {
	return s.draw(ctx, "unique", caller, key, size, func(d Driver, ctx context.Context, key string, n int64) (int64, error) {
		if u, ok := d.(Uniquer); ok {
			return u.Unique(ctx, key, n)
		}
		return d.Next(ctx, key, n)
	})
}

func (s *Sequence) draw(ctx context.Context, op string, caller components.Caller, key string, size int64,
	from func(Driver, context.Context, string, int64) (int64, error)) (first, last int64, err error) {
	call, err := s.component.Begin(ctx, op)
	if err != nil {
		return 0, 0, err
	}
	defer call.End(&err)
	stored, err := caller.StoredKey(key)
	if err != nil {
		return 0, 0, err
	}
	if size == 0 {
		size = 1
	}
	if size < 1 || size > MaxSize {
		return 0, 0, fmt.Errorf("%w: a size of %d is not from 1 to %d", components.ErrInvalid, size, MaxSize)
	}
	first, err = from(call.Driver, ctx, stored, size)
	switch {
	case err != nil:
		return 0, 0, err
	case first < 1 || first > math.MaxInt64-size+1:
		return 0, 0, fmt.Errorf("the driver answered %d as the first of %d numbers", first, size)
	}
	return first, first + size - 1, nil
}
