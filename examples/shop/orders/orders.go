// Package orders is the shop's counter. It asks the shelf for a price (and keeps it in the cache for a while), has a saga take the goods
// and the money, writes the order into its book, makes it known, and lets others watch. What it needs of other applications and
// of the middleware it gets from its sidecar.
package orders

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

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
	sagas    *client.Transactions
	prices   *client.Cache
	discount atomic.Int32 // in percent
	book     book
	watchers watchers
}

// New opens the counter.
func New(sidecar *client.Client) *Server {
	return &Server{sidecar: sidecar, stock: shoppb.NewStockClient(sidecar.Conn("stock")), sagas: sidecar.Transactions("sagas"), prices: sidecar.Cache("prices"), book: newBook(sidecar)}
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
	discount := s.discount.Load()
	o := &shoppb.Order{Number: number, Customer: in.GetCustomer(), Item: in.GetItem(), Quantity: in.GetQuantity(), Discount: discount,
		Cents: price * int64(in.GetQuantity()) * int64(100-discount) / 100}
	if err := s.deal(ctx, o); err != nil {
		return nil, err
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
