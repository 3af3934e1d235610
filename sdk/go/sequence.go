package client

import (
	"context"
	"math"

	sequencev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/sequence/v1"
)

// Sequence is a sequence component: it gives numbers that never repeat. Keys are the application's own.
type Sequence struct {
	component string
	api       sequencev1.SequenceClient
}

// Sequence is the sequence component of that name; empty means "default". Whether there is one shows at the first call
// (ErrNoComponent).
func (c *Client) Sequence(name string) *Sequence {
	return &Sequence{name, sequencev1.NewSequenceClient(c.API())}
}

// Numbers are those from First to Last.
type Numbers struct{ First, Last int64 }

// Next gives n numbers in a row, from 1 to 1,000,000 of them, each greater than any that anybody had got for the key before the
// call began. Those of a call that fails are gone.
func (s *Sequence) Next(ctx context.Context, key string, n int) (Numbers, error) {
	return s.draw(ctx, key, n, sequencev1.NextRequest_ORDER_INCREASING)
}

// Unique gives n numbers in a row that nobody else gets, in no particular order; that may be cheaper than Next.
func (s *Sequence) Unique(ctx context.Context, key string, n int) (Numbers, error) {
	return s.draw(ctx, key, n, sequencev1.NextRequest_ORDER_UNIQUE)
}

func (s *Sequence) draw(ctx context.Context, key string, n int, order sequencev1.NextRequest_Order) (Numbers, error) {
	if n < 1 || n > math.MaxInt32 {
		return Numbers{}, invalid("a row has from 1 to 1,000,000 numbers")
	}
	r, err := s.api.Next(ctx, &sequencev1.NextRequest{Component: s.component, Key: key, Size: int32(n), Order: order})
	return Numbers{r.GetFirst(), r.GetLast()}, err
}
