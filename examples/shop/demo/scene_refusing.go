package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/examples/shop/orders"
	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	"github.com/outrigger-mesh/outrigger/examples/shop/stock"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// refusing is what customers do not get, and how they hear of it.
var refusing = scene{"Some customers get nothing", []check{
	{"error-passes", "a hundred quinces: the error of stock arrives at the till as it was, details and all", errorPasses, func(ctx context.Context, s *shop) error {
		return s.restock(ctx, "quince", 1000)
	}},
	{"payment-refused", "a ring that is too dear: payments refuses, and the ring is on the shelf again", paymentRefused, func(ctx context.Context, s *shop) error {
		return s.discount(ctx, 60) // not too dear
	}},
	{"saga-compensated", "another one: of the order's saga the payment failed, and what the shelf had given was taken back", sagaCompensated, func(ctx context.Context, s *shop) error {
		return s.discount(ctx, 60)
	}},
	{"deadline-passes", "a piano, whose price nobody knows: the customer's deadline ends the call at the shelf too", deadlinePasses, func(_ context.Context, s *shop) error {
		s.callTime = time.Minute
		return nil
	}},
	{"no-route", "a call for a bakery, which there is not: the error names it", noRoute, func(ctx context.Context, s *shop) error {
		_, err := s.customer.Registry().Publish(ctx, client.Publication{Service: client.Service{Name: "bakery"}, Port: s.ordersPort})
		if err == nil {
			_, err = s.find(ctx, "bakery")
		}
		return err
	}},
}}

var (
	basket       = client.Item{Value: []byte("apples and plums")}
	basketBase64 = base64.StdEncoding.EncodeToString(basket.Value)
)

// restock has one lorry bring something.
func (s *shop) restock(ctx context.Context, item string, quantity int32) error {
	lorry, err := shoppb.NewStockClient(s.customer.Conn("stock")).Restock(ctx)
	if err != nil {
		return err
	}
	if err := lorry.Send(&shoppb.Delivery{Item: item, Quantity: quantity}); err != nil {
		return err
	}
	_, err = lorry.CloseAndRecv()
	return err
}

func errorPasses(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "FailedPrecondition: 100 of quince are wanted, 7 are left; OutOfStock quince 100 7; said by the app"
	_, err = s.buy(ctx, "quince", 100)
	seen = saysWhy(err)
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(*shoppb.OutOfStock); ok {
			seen += fmt.Sprintf("; OutOfStock %s %d %d", d.GetItem(), d.GetWanted(), d.GetLeft())
		}
	}
	return expected, seen + "; said by the " + client.Origin(err), nil
}

func paymentRefused(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "FailedPrecondition: the card is good for 500000 cents; 1 ring on the shelf"
	_, err = s.buy(ctx, "ring", 1)
	seen, _, _ = strings.Cut(saysWhy(err), ", not for") // how much too dear is the discount's affair
	seen = strings.Replace(seen, "the application answered 409 Conflict: ", "", 1)
	shelf, err := s.shelf(ctx)
	return expected, seen + "; " + count(shelf.GetLeft()["ring"], "ring") + " on the shelf", err
}

func sagaCompensated(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "1 more is ABORTED: payment failed; goods: compensation done"
	before, _, err := s.aborted(ctx)
	if err != nil {
		return expected, "", err
	}
	_, refused := s.buy(ctx, "ring", 1)
	after, last, err := s.aborted(ctx)
	if err != nil || after != before+1 {
		return expected, fmt.Sprintf("%d more are ABORTED; %s", after-before, saysWhy(refused)), err
	}
	saga, err := s.counter.Transactions("sagas").Get(ctx, last)
	seen = fmt.Sprintf("1 more is %s: %s failed", saga.State, saga.FailedBranch)
	for _, b := range saga.Branches {
		if b.ID == orders.Goods {
			seen += fmt.Sprintf("; %s: %s %s", b.ID, b.Op, map[bool]string{true: "done", false: "not done"}[b.Done])
		}
	}
	return expected, seen, err
}

// aborted counts the orders that came to nothing, and answers the saga of the last of them.
func (s *shop) aborted(ctx context.Context) (n int, last string, err error) {
	newest := time.Time{}
	for saga, err := range s.counter.Transactions("sagas").List(ctx, 0, client.TxAborted) {
		if err != nil {
			return n, last, err
		}
		if n++; saga.Began.After(newest) {
			last, newest = saga.GID, saga.Began
		}
	}
	return n, last, nil
}

func deadlinePasses(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "DeadlineExceeded at the till; 1 call given up at the shelf"
	before, err := s.shelf(ctx)
	if err != nil {
		return expected, "", err
	}
	short, cancel := context.WithTimeout(ctx, s.callTime)
	defer cancel()
	began := time.Now()
	_, err = s.buy(short, stock.Piano, 1)
	// Else it was the check's own time that ended it: a sidecar answers a moment before a deadline.
	if seen = "still waiting"; status.Code(err) == codes.DeadlineExceeded && time.Since(began) > s.callTime/2 {
		seen = "DeadlineExceeded"
	} else if !errors.Is(err, context.DeadlineExceeded) {
		seen = saysWhy(err)
	}
	for {
		now, err := s.shelf(ctx)
		if err != nil {
			return expected, seen, err
		}
		if n := now.GetGivenUp() - before.GetGivenUp(); n > 0 {
			return expected, seen + " at the till; " + count(n, "call") + " given up at the shelf", nil
		}
		if err := pause(ctx); err != nil {
			return expected, seen, err
		}
	}
}

func noRoute(ctx context.Context, s *shop) (expected, seen string, err error) {
	_, err = shoppb.NewOrdersClient(s.customer.Conn("bakery")).Place(ctx, &shoppb.PlaceRequest{Item: "bread", Quantity: 1})
	return "Unavailable NO_INSTANCE: unavailable: service shop/bakery has no instance: nobody has published it; said by the sidecar",
		saysWhy(err) + "; said by the " + client.Origin(err), nil
}
