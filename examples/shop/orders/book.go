package orders

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// Placed is the topic of orders that were placed: each event is a shop.v1.Order as JSON, ordered by customer. Events are in
// the component "news".
const Placed = "orders.placed"

// Key is where the book has an order; the book is the state component "book".
func Key(number int64) string { return fmt.Sprintf("order/%d", number) }

// book is what orders are written down in.
type book struct {
	numbers *client.Sequence
	orders  *client.State
	news    *client.PubSub
}

func newBook(sidecar *client.Client) book {
	return book{sidecar.Sequence("numbers"), sidecar.State("book"), sidecar.PubSub("news")}
}

// number is one that no other order has, before or after any restart.
func (b book) number(ctx context.Context) (n int64, err error) {
	err = again(ctx, func() error {
		got, err := b.numbers.Next(ctx, "orders", 1)
		n = got.First
		return err
	})
	return n, err
}

// enter writes an order down, then makes it known. Both can be said twice: an order with this number can only be this one, and who hears
// of it twice packs it once.
func (b book) enter(ctx context.Context, o *shoppb.Order) error {
	text, err := protojson.Marshal(o)
	if err != nil {
		return err
	}
	err = again(ctx, func() error {
		_, err := b.orders.Set(ctx, Key(o.GetNumber()), client.Item{Value: text, ContentType: "application/json"}, client.IfAbsent())
		if errors.Is(err, client.ErrExists) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return again(ctx, func() error {
		_, err := b.news.Publish(ctx, Placed, client.Event{Data: text, ContentType: "application/json", OrderingKey: o.GetCustomer()})
		return err
	})
}

const (
	storePatience = 5 * time.Second
	beforeRetry   = 20 * time.Millisecond
)

// again does what may be done twice until it is known to be done: when the store changes hands, a call may fail without a
// word on whether it was.
func again(ctx context.Context, do func() error) error {
	for end := time.Now().Add(storePatience); ; {
		err := do()
		if !errors.Is(err, client.ErrUnavailable) || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(beforeRetry):
		case <-ctx.Done():
			return err
		}
	}
}
