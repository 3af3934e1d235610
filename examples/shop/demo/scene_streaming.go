package main

import (
	"context"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
)

// streaming is calls with more than one message.
var streaming = scene{"Streams pass too", []check{
	{"watch-orders", "a screen watches orders while three are placed (server stream)", watchOrders, func(_ context.Context, s *shop) error {
		s.watchTime = time.Millisecond // it is switched off before they are
		return nil
	}},
	{"restock", "a lorry brings five deliveries of twenty plums (client stream)", restock, func(_ context.Context, s *shop) error {
		s.deliveries[2]-- // a plum falls off the lorry
		return nil
	}},
}}

func watchOrders(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "three orders"
	watching, cancel := context.WithTimeout(ctx, s.watchTime)
	defer cancel()
	screen, err := shoppb.NewOrdersClient(s.customer.Conn("orders")).WatchOrders(watching, &shoppb.WatchOrdersRequest{})
	if err != nil {
		return expected, "", err
	}
	if _, err := screen.Header(); err != nil { // it watches from now on
		return expected, "", err
	}
	var placed, shown []int64
	for range 3 {
		o, err := s.buy(ctx, "apple", 1)
		if err != nil {
			return expected, "", err
		}
		placed = append(placed, o.GetNumber())
	}
	for range placed {
		o, err := screen.Recv()
		if err != nil {
			return expected, fmt.Sprintf("%d orders", len(shown)), err
		}
		shown = append(shown, o.GetNumber())
	}
	return fmt.Sprint("orders ", placed), fmt.Sprint("orders ", shown), nil
}

func restock(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "5 deliveries, 100 pieces; 100 plums more"
	before, err := s.shelf(ctx)
	if err != nil {
		return expected, "", err
	}
	lorry, err := shoppb.NewStockClient(s.customer.Conn("stock")).Restock(ctx)
	for _, n := range s.deliveries {
		if err == nil {
			err = lorry.Send(&shoppb.Delivery{Item: "plum", Quantity: n})
		}
	}
	if err != nil {
		return expected, "", err
	}
	sum, err := lorry.CloseAndRecv()
	if err != nil {
		return expected, "", err
	}
	after, err := s.shelf(ctx)
	return expected, fmt.Sprintf("%d deliveries, %d pieces; %d plums more", sum.GetDeliveries(), sum.GetPieces(), after.GetLeft()["plum"]-before.GetLeft()["plum"]), err
}
