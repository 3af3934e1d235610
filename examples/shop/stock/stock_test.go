package stock_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	"github.com/outrigger-mesh/outrigger/examples/shop/stock"
)

func TestTakeIsAllOrNothing(t *testing.T) {
	s := stock.New("shelf", stock.Office{})
	for _, test := range []struct {
		quantity int32
		code     codes.Code
		left     int32
	}{
		{8, codes.FailedPrecondition, 7},
		{0, codes.InvalidArgument, 7},
		{-1, codes.InvalidArgument, 7},
		{5, codes.OK, 2},
		{3, codes.FailedPrecondition, 2},
	} {
		_, err := s.Take(t.Context(), &shoppb.TakeRequest{Item: "quince", Quantity: test.quantity})
		shelf, _ := s.Inspect(t.Context(), &shoppb.InspectRequest{})
		if left := shelf.GetLeft()["quince"]; status.Code(err) != test.code || left != test.left {
			t.Errorf("take %d: %v, %d left; want %v, %d", test.quantity, err, left, test.code, test.left)
		}
	}
}

func TestOutOfStockSaysSoToPrograms(t *testing.T) {
	_, err := stock.New("shelf", stock.Office{}).Take(t.Context(), &shoppb.TakeRequest{Item: "quince", Quantity: 8})
	details := status.Convert(err).Details()
	if len(details) != 1 {
		t.Fatalf("%v: details %v", err, details)
	}
	if d, ok := details[0].(*shoppb.OutOfStock); !ok || d.GetItem() != "quince" || d.GetWanted() != 8 || d.GetLeft() != 7 {
		t.Errorf("details: %v", details[0])
	}
}

func TestAPriceNobodyKnowsEndsWithItsCaller(t *testing.T) {
	s := stock.New("shelf", stock.Office{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := s.Price(ctx, &shoppb.PriceRequest{Item: stock.Piano})
	shelf, _ := s.Inspect(t.Context(), &shoppb.InspectRequest{})
	if status.Code(err) != codes.DeadlineExceeded || shelf.GetGivenUp() != 1 {
		t.Errorf("%v, %d given up", err, shelf.GetGivenUp())
	}
}
