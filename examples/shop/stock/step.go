package stock

import (
	"context"
	"errors"
	"fmt"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// The shelf as a step of an order: what was taken for which order is in the ledger, behind the barrier of its state, so that a call which
// comes twice, or after the one that takes it back, takes nothing.

// TakenKey is where the ledger has which shelf an order's goods are from.
func TakenKey(order int64) string { return fmt.Sprintf("taken/%d", order) }

// noteTaken writes that goods are off this shelf, and puts them on again if they were not to be taken.
func (s *Server) noteTaken(ctx context.Context, branch client.Branch, in *shoppb.TakeRequest) error {
	done, err := s.office.Ledger.Transact(ctx, client.Transaction{Barrier: branch.Barrier(),
		Operations: []client.Operation{client.SetKey(TakenKey(in.GetOrder()), client.Item{Value: []byte(s.name)})}})
	if err != nil || done.Outcome != client.Applied {
		s.putOn(in)
	}
	return err
}

// taken answers a step for which there is too little left now: it may be done already.
func (s *Server) taken(ctx context.Context, in *shoppb.TakeRequest, why error) (*shoppb.TakeReply, error) {
	out, err := s.Taken(ctx, &shoppb.TakenRequest{Order: in.GetOrder()})
	if errors.Is(err, client.ErrNotFound) {
		return nil, client.BranchFailed(words(why))
	}
	return out, err
}

// Taken answers which shelf an order's goods are from, whichever is asked.
func (s *Server) Taken(ctx context.Context, in *shoppb.TakenRequest) (*shoppb.TakeReply, error) {
	shelf, err := s.office.Ledger.Get(ctx, TakenKey(in.GetOrder()))
	return &shoppb.TakeReply{Shelf: string(shelf.Value)}, err
}

// PutBack puts on this shelf what an order took, if it did.
func (s *Server) PutBack(ctx context.Context, in *shoppb.TakeRequest) (*shoppb.PutBackReply, error) {
	branch, _ := client.BranchFrom(ctx)
	done, err := s.office.Ledger.Transact(ctx, client.Transaction{Barrier: branch.Barrier(),
		Operations: []client.Operation{client.DeleteKey(TakenKey(in.GetOrder()))}})
	if err == nil && done.Outcome == client.Applied {
		s.putOn(in)
	}
	return &shoppb.PutBackReply{}, err
}
