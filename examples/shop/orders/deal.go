package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/examples/shop/payments"
	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// GID is the name of an order's saga, in the transaction component "sagas": the same order has no second one, however often it is run.
func GID(order int64) string { return fmt.Sprintf("order-%d", order) }

// The steps of an order's saga. Shipping is none: it may be closed, and hears of the order when it opens.
const (
	Goods   = "goods"
	Payment = "payment"
)

// deal takes the goods and has the customer pay: both, or neither, whatever process ends meanwhile.
func (s *Server) deal(ctx context.Context, o *shoppb.Order) error {
	if o.GetQuantity() < 1 {
		return status.Errorf(codes.InvalidArgument, "quantity %d is less than 1", o.GetQuantity())
	}
	take := &shoppb.TakeRequest{Item: o.GetItem(), Quantity: o.GetQuantity(), Order: o.GetNumber()}
	goods, err := proto.Marshal(take)
	if err != nil {
		return err
	}
	charge, err := json.Marshal(payments.Charge{Order: o.GetNumber(), Cents: o.GetCents()})
	if err != nil {
		return err
	}
	var saga client.TxStatus
	err = again(ctx, func() (err error) {
		saga, err = s.sagas.Saga(ctx).GID(GID(o.GetNumber())).
			Step(Goods, client.To("stock", "shop.v1.Stock/Take", goods), client.To("stock", "shop.v1.Stock/PutBack", goods)).
			Step(Payment, client.To("payments", "charge", charge).As("application/json"), client.To("payments", "refund", charge).As("application/json")).
			Run()
		return err
	})
	switch {
	case errors.Is(err, client.ErrRolledBack):
		return s.refused(ctx, take, saga)
	case err != nil:
		return err
	}
	return s.papers(ctx, o)
}

// refused is what the customer hears of an order that came to nothing: of goods what the shelf says itself.
func (s *Server) refused(ctx context.Context, take *shoppb.TakeRequest, saga client.TxStatus) error {
	if saga.FailedBranch == Goods {
		if _, err := s.stock.Ask(ctx, take); err != nil {
			return err
		}
	}
	why := saga.Reason
	if _, said, ok := strings.Cut(why, "the branch failed: "); ok {
		why = said
	}
	return status.Error(codes.FailedPrecondition, why)
}

// papers are what the steps have left behind: where the goods are from, and the receipt, of the payment service, which speaks HTTP.
func (s *Server) papers(ctx context.Context, o *shoppb.Order) error {
	return again(ctx, func() error {
		taken, err := s.stock.Taken(ctx, &shoppb.TakenRequest{Order: o.GetNumber()})
		if err != nil {
			return err
		}
		answer, err := s.sidecar.Invoke(ctx, "payments", fmt.Sprintf("receipt/%d", o.GetNumber()), nil, client.Verb("GET"), client.Idempotent())
		if err != nil {
			return err
		}
		var r payments.Receipt
		if err := json.Unmarshal(answer.Data, &r); err != nil {
			return fmt.Errorf("payments answered no receipt: %w", err)
		}
		o.Shelf, o.Receipt = taken.GetShelf(), &shoppb.Receipt{Signature: r.Signature, TraceId: r.TraceID}
		return nil
	})
}
