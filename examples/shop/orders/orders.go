// Package orders is the shop's counter. It asks the shelf for a price (and keeps it in the cache for a while), takes the goods,
// has the customer pay, writes the order into its book, makes it known, and lets others watch. What it needs of other applications and
// of the middleware it gets from its sidecar.
package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/examples/shop/payments"
	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// PriceTTL is how long a price that was asked for is good.
const PriceTTL = 3 * time.Second

// Server is the counter. Safe for concurrent use.
type Server struct {
	shoppb.UnimplementedOrdersServer

	sidecar  *client.Client
	stock    shoppb.StockClient
	prices   *client.Cache
	discount atomic.Int32 // in percent
	book     book
	watchers watchers
}

// New opens the counter.
func New(sidecar *client.Client) *Server {
	return &Server{sidecar: sidecar, stock: shoppb.NewStockClient(sidecar.Conn("stock")), prices: sidecar.Cache("prices"), book: newBook(sidecar)}
}

// Place sells something. Errors of the other services go to the customer as they are.
func (s *Server) Place(ctx context.Context, in *shoppb.PlaceRequest) (*shoppb.Order, error) {
	price, err := s.price(ctx, in.GetItem())
	if err != nil {
		return nil, err
	}
	number, err := s.book.number(ctx) // before goods are taken: a number that is not used harms nobody
	if err != nil {
		return nil, err
	}
	taken, err := s.stock.Take(ctx, &shoppb.TakeRequest{Item: in.GetItem(), Quantity: in.GetQuantity()})
	if err != nil {
		return nil, err
	}
	discount := s.discount.Load()
	o := &shoppb.Order{Number: number, Customer: in.GetCustomer(), Item: in.GetItem(), Quantity: in.GetQuantity(), Discount: discount,
		Cents: price * int64(in.GetQuantity()) * int64(100-discount) / 100, Shelf: taken.GetShelf()}
	if o.Receipt, err = s.pay(ctx, o); err != nil {
		return nil, s.unpaid(ctx, o, err)
	}
	if err := s.book.enter(ctx, o); err != nil {
		return nil, err
	}
	s.watchers.tell(o)
	return o, nil
}

// price looks into the cache first. A cache that is away costs a question, not an order.
func (s *Server) price(ctx context.Context, item string) (cents int64, err error) {
	kept, err := s.prices.Get(ctx, item)
	if err == nil {
		return strconv.ParseInt(string(kept.Value), 10, 64)
	}
	asked, err := s.stock.Price(ctx, &shoppb.PriceRequest{Item: item})
	if err != nil {
		return 0, err
	}
	if _, err := s.prices.Set(ctx, item, client.Item{Value: strconv.AppendInt(nil, asked.GetCents(), 10), TTL: PriceTTL}); err != nil {
		slog.Warn("the price is not kept", "item", item, "err", err)
	}
	return asked.GetCents(), nil
}

// pay calls the payment service, which speaks HTTP.
func (s *Server) pay(ctx context.Context, o *shoppb.Order) (*shoppb.Receipt, error) {
	body, err := json.Marshal(payments.Charge{Order: o.GetNumber(), Cents: o.GetCents()})
	if err != nil {
		return nil, err
	}
	answer, err := s.sidecar.Invoke(ctx, "payments", "charge", body, client.ContentType("application/json"))
	if err != nil {
		return nil, err
	}
	var r payments.Receipt
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		return nil, fmt.Errorf("payments answered no receipt: %w", err)
	}
	return &shoppb.Receipt{Signature: r.Signature, TraceId: r.TraceID}, nil
}

// unpaid puts the goods back if the payment was refused. When the call broke off nobody here knows whether it was paid.
func (s *Server) unpaid(ctx context.Context, o *shoppb.Order, why error) error {
	if !errors.Is(why, client.ErrPrecondition) {
		return why
	}
	if err := s.putBack(ctx, o); err != nil {
		return errors.Join(why, err)
	}
	return why
}

// putBack undoes Take, whether or not the customer still waits. Any shelf will do: customers buy from all of them.
func (s *Server) putBack(ctx context.Context, o *shoppb.Order) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	lorry, err := s.stock.Restock(ctx)
	if err != nil {
		return err
	}
	if err := lorry.Send(&shoppb.Delivery{Item: o.GetItem(), Quantity: o.GetQuantity()}); err != nil {
		return err
	}
	_, err = lorry.CloseAndRecv()
	return err
}

// FollowDiscount keeps to the discount that the configuration has now, until ctx ends: "10" is 10 % off. What is not a
// number from 0 to 100, or absent, is no discount.
func (s *Server) FollowDiscount(ctx context.Context) error {
	for change, err := range s.sidecar.Config("settings").Watch(ctx, "discount") {
		if err != nil {
			return err
		}
		s.discount.Store(percent(string(change.Item.Value)))
	}
	return nil
}

func percent(text string) int32 {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 7)
	if err != nil || n > 100 {
		return 0
	}
	return int32(n)
}
