package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/outrigger-mesh/outrigger/examples/shop/orders"
	"github.com/outrigger-mesh/outrigger/examples/shop/shipping"
	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// telling is orders that are written down (state, sequence) and made known (events).
var telling = scene{"Orders are written down and made known", []check{
	{"order-kept", "orders writes into its book, and its process and sidecar end and begin again: it is all there, and numbers go on", orderKept, func(_ context.Context, s *shop) error {
		return s.during(func(ctx context.Context) error { // somebody tears the pages out
			return tear(ctx, s.counter.State("book"), "")
		})
	}},
	{"event-handled", "ann orders three times: shipping hears of each, and packs them in that order", eventHandled, func(_ context.Context, s *shop) error {
		return s.during(func(ctx context.Context) error { // somebody wipes her tally off the board
			return tear(ctx, s.parcels.State(shipping.Parcels), shipping.TallyKey("ann"))
		})
	}},
	{"event-waits", "shipping is closed while bob orders twice: it hears of that when it opens again", eventWaits, func(_ context.Context, s *shop) error {
		return s.edit("shipping.yaml", "namespace: shop", "namespace: market") // it opens where there is no such news
	}},
	{"event-repeated", "an order of cleo's is made known twice: it is packed once", eventRepeated, func(_ context.Context, s *shop) error {
		return s.during(func(ctx context.Context) error { // somebody steals parcels: what comes again is packed again
			return tear(ctx, s.parcels.State(shipping.Parcels), shipping.ParcelPrefix)
		})
	}},
}}

// tear removes all keys that begin with prefix.
func tear(ctx context.Context, from *client.State, prefix string) error {
	for e, err := range from.List(ctx, prefix) {
		if err == nil {
			err = from.Delete(ctx, e.Key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// orderFor places an order of a customer who is called by name.
func (s *shop) orderFor(ctx context.Context, customer string) (int64, error) {
	o, err := shoppb.NewOrdersClient(s.customer.Conn("orders")).Place(ctx, &shoppb.PlaceRequest{Item: "apple", Quantity: 2, Customer: customer})
	return o.GetNumber(), err
}

// written looks an order up in the book.
func (s *shop) written(ctx context.Context, number int64) (*shoppb.Order, error) {
	item, err := s.counter.State("book").Get(ctx, orders.Key(number))
	if err != nil {
		return nil, err
	}
	o := &shoppb.Order{}
	return o, protojson.Unmarshal(item.Value, o)
}

func orderKept(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "2 x apple for zoe, before and after; a greater number after"
	first, err := s.orderFor(ctx, "zoe")
	if err != nil {
		return expected, "", err
	}
	before, err := s.written(ctx, first)
	if err != nil {
		return expected, "not in the book", err
	}
	s.ordersApp.stop(ctx, lastWords)
	s.orders.stop(ctx)
	if s.ordersApp, err = s.app("orders", "orders", s.listening("orders", s.ordersPort)...); err != nil {
		return expected, "", err
	}
	if err := s.orders.start(ctx); err != nil {
		return expected, "", err
	}
	if _, err := s.find(ctx, "orders"); err != nil {
		return expected, "", err
	}
	after, err := s.written(ctx, first)
	if err != nil {
		return expected, "", err
	}
	seen = fmt.Sprintf("%d x %s for %s, before and ", before.GetQuantity(), before.GetItem(), before.GetCustomer())
	if after.GetReceipt().GetSignature() != before.GetReceipt().GetSignature() {
		seen += "not "
	}
	second, err := s.orderFor(ctx, "zoe")
	if err != nil {
		return expected, seen + "after", err
	}
	if second > first {
		return expected, seen + "after; a greater number after", nil
	}
	return expected, seen + fmt.Sprintf("after; %d after %d", second, first), nil
}

const lastWords = 10 * time.Second

// packed waits for the parcel of an order.
func (s *shop) packed(ctx context.Context, order int64) (p shipping.Parcel, err error) {
	for {
		item, err := s.parcels.State(shipping.Parcels).Get(ctx, shipping.ParcelKey(order))
		if err == nil {
			return p, json.Unmarshal(item.Value, &p)
		}
		if !errors.Is(err, client.ErrNotFound) {
			return p, err
		}
		if pause(ctx) != nil {
			return p, fmt.Errorf("order %d has no parcel", order)
		}
	}
}

// nths waits for the parcels of orders, and tells of each the how many-th of its customer it is.
func (s *shop) nths(ctx context.Context, orders ...int64) (nth []int, err error) {
	for _, number := range orders {
		p, err := s.packed(ctx, number)
		if err != nil {
			return nth, err
		}
		nth = append(nth, p.Nth)
	}
	return nth, nil
}

func (s *shop) ordersFor(ctx context.Context, customer string, n int) (numbers []int64, err error) {
	for range n {
		number, err := s.orderFor(ctx, customer)
		if err != nil {
			return numbers, err
		}
		numbers = append(numbers, number)
	}
	return numbers, nil
}

func eventHandled(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "parcels [1 2 3] of ann"
	numbers, err := s.ordersFor(ctx, "ann", 3)
	if err != nil {
		return expected, "", err
	}
	nth, err := s.nths(ctx, numbers...)
	return expected, fmt.Sprintf("parcels %v of ann", nth), err
}

func eventWaits(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "parcels [1 2] of bob"
	s.shipping.stop(ctx)
	numbers, err := s.ordersFor(ctx, "bob", 2)
	if err != nil {
		return expected, "", err
	}
	if err := s.shipping.start(ctx); err != nil {
		return expected, "", err
	}
	nth, err := s.nths(ctx, numbers...)
	return expected, fmt.Sprintf("parcels %v of bob", nth), err
}

func eventRepeated(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "parcels [1 2] of cleo"
	first, err := s.orderFor(ctx, "cleo")
	if err != nil {
		return expected, "", err
	}
	text, err := s.counter.State("book").Get(ctx, orders.Key(first))
	if err != nil {
		return expected, "", err
	}
	// Without its key it is another event, of the same order.
	_, err = s.counter.PubSub("news").Publish(ctx, orders.Placed, client.Event{Data: text.Value, OrderingKey: "cleo"})
	if err != nil {
		return expected, "", err
	}
	second, err := s.orderFor(ctx, "cleo")
	if err != nil {
		return expected, "", err
	}
	nth, err := s.nths(ctx, first, second)
	return expected, fmt.Sprintf("parcels %v of cleo", nth), err
}
