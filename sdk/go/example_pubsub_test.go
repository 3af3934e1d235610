package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func ExamplePubSub_Subscribe() {
	ctx, c, stop := connected()
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	orders := c.PubSub("default")

	// The same idempotency key publishes once, however often it is tried.
	if _, err := orders.Publish(ctx, "orders", client.Event{Data: []byte("order 7"), OrderingKey: "customer-1", IdempotencyKey: "order-7"}); err != nil {
		log.Fatal(err)
	}
	err := orders.Subscribe(ctx, "orders", client.SubscribeOptions{Earliest: true}, func(_ context.Context, e client.Event) error {
		if len(e.Data) == 0 {
			return client.Reject(errors.New("an order without content")) // goes to the dead-letter topic
		}
		fmt.Printf("%s, attempt %d\n", e.Data, e.Attempt)
		cancel()
		return nil // it is handled; with an error it would come again
	})
	fmt.Println(err)
	// Output:
	// order 7, attempt 1
	// context canceled
}

func ExamplePubSub_PublishMany() {
	ctx, c, stop := connected()
	defer stop()
	orders := c.PubSub("default")
	results, err := orders.PublishMany(ctx, "orders", client.Event{Data: []byte("order 8")}, client.Event{Data: []byte("order 9")})
	if err != nil {
		log.Fatal(err) // of all
	}
	for _, r := range results {
		fmt.Println(r.ID != "", r.Err)
	}
	// Output:
	// true <nil>
	// true <nil>
}
