package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// buy places an order at the till: through the till's sidecar and that of orders.
func (s *shop) buy(ctx context.Context, item string, quantity int32) (*shoppb.Order, error) {
	o, err := shoppb.NewOrdersClient(s.customer.Conn("orders")).Place(ctx, &shoppb.PlaceRequest{Item: item, Quantity: quantity})
	s.sold += o.GetCents()
	return o, err
}

// shelf looks at what is in stock.
func (s *shop) shelf(ctx context.Context) (*shoppb.Shelf, error) {
	return shoppb.NewStockClient(s.customer.Conn("stock")).Inspect(ctx, &shoppb.InspectRequest{})
}

// priceQuestions is how often the shelf was asked for a price.
func (s *shop) priceQuestions(ctx context.Context) (int32, error) {
	shelf, err := s.shelf(ctx)
	return shelf.GetPriceQuestions(), err
}

// series places one order after another until done is closed and there are enough, or one fails.
type series struct {
	placed  int
	shelves map[string]int
	err     error
	done    chan struct{}
	ended   chan struct{}
}

const (
	enough  = 20
	between = 10 * time.Millisecond
)

// place begins a series of orders.
func (s *shop) place(ctx context.Context, door shoppb.OrdersClient) *series {
	r := &series{shelves: map[string]int{}, done: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		for r.err == nil && !(isClosed(r.done) && r.placed >= enough) {
			var o *shoppb.Order
			if o, r.err = door.Place(ctx, &shoppb.PlaceRequest{Item: "apple", Quantity: 1}); r.err == nil {
				r.placed++
				r.shelves[o.GetShelf()]++
				time.Sleep(between)
			}
		}
	}()
	return r
}

// end waits for the last order and answers how it went.
func (r *series) end() string {
	close(r.done)
	<-r.ended
	if r.err != nil {
		return fmt.Sprintf("%d orders, then: %s", r.placed, saysWhy(r.err))
	}
	return "all orders succeed"
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// saysWhy is an error as a program sees it: code, reason if there is one, and words.
func saysWhy(err error) string {
	if err == nil {
		return "no error"
	}
	text := status.Code(err).String()
	if errors.Is(err, context.DeadlineExceeded) {
		text = codes.DeadlineExceeded.String()
	}
	if reason := client.Reason(err); reason != "" {
		text += " " + reason
	}
	return text + ": " + status.Convert(err).Message()
}
