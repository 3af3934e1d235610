package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// buy is a customer: it places one order, says how that went, and has nothing to serve.
func buy(ctx context.Context, sidecar *client.Client, o options) error {
	if len(o.args) != 2 {
		return errors.New(usage)
	}
	quantity, err := strconv.ParseInt(o.args[1], 10, 32)
	if err != nil {
		return fmt.Errorf("quantity: %w", err)
	}
	order, err := shoppb.NewOrdersClient(sidecar.Conn("orders")).Place(ctx, &shoppb.PlaceRequest{Item: o.args[0], Quantity: int32(quantity)})
	if err != nil {
		return err
	}
	fmt.Printf("order %d: %d %s from %s for %d cents\n", order.GetNumber(), order.GetQuantity(), order.GetItem(), order.GetShelf(), order.GetCents())
	return nil
}
