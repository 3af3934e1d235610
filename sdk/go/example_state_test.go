package client_test

import (
	"errors"
	"fmt"
	"log"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func ExampleState_Set() {
	ctx, c, stop := connected()
	defer stop()
	orders := c.State("default")

	version, err := orders.Set(ctx, "order-7", client.Item{Value: []byte("paid")}, client.IfAbsent())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := orders.Set(ctx, "order-7", client.Item{Value: []byte("sent")}, client.IfVersion(version)); err != nil {
		log.Fatal(err)
	}
	_, err = orders.Set(ctx, "order-7", client.Item{Value: []byte("cancelled")}, client.IfVersion(version))
	fmt.Println(errors.Is(err, client.ErrVersionMismatch)) // somebody else was faster: read it again
	// Output: true
}

func ExampleState_Transact() {
	ctx, c, stop := connected()
	defer stop()

	done, err := c.State("default").Transact(ctx, client.Transaction{
		Operations: []client.Operation{
			client.SetKey("order-7", client.Item{Value: []byte("paid")}, client.IfAbsent()),
			client.SetKey("paid/order-7", client.Item{}),
			client.CheckKey("closed", client.IfAbsent()),
		},
		IdempotencyKey: "order-7-paid", // a call that was lost can be made again
	})
	fmt.Println(done.Outcome, len(done.Versions), err)
	// Output: APPLIED 3 <nil>
}
