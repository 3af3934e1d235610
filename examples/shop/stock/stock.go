// Package stock is a shelf of goods: it knows prices, hands goods out and takes deliveries in. That is plain gRPC; that it is
// called through sidecars it does not notice. The ledger, which all shelves write into by turns, it has of its sidecar.
package stock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// Piano is the item whose price takes until the caller gives up: somebody has to be asked, and does not answer.
const Piano = "piano"

// Server is one shelf. Safe for concurrent use.
type Server struct {
	shoppb.UnimplementedStockServer

	name   string
	prices map[string]int64 // in cents; never changed
	office Office

	mu             sync.Mutex
	left           map[string]int32
	priceQuestions int32
	givenUp        int32
}

// New fills a shelf. Without an office it cannot take stock.
func New(name string, office Office) *Server {
	return &Server{name: name, office: office,
		prices: map[string]int64{"apple": 90, "pear": 120, "plum": 45, "quince": 250, "ring": 1_000_000},
		left:   map[string]int32{"apple": 1000, "pear": 1000, "plum": 1000, "quince": 7, "ring": 1}}
}

// Price answers what one piece costs.
func (s *Server) Price(ctx context.Context, in *shoppb.PriceRequest) (*shoppb.PriceReply, error) {
	s.mu.Lock()
	s.priceQuestions++
	s.mu.Unlock()
	if in.GetItem() == Piano {
		<-ctx.Done()
		s.mu.Lock()
		s.givenUp++
		s.mu.Unlock()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	cents, ok := s.prices[in.GetItem()]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "the shop has no %q", in.GetItem())
	}
	return &shoppb.PriceReply{Cents: cents}, nil
}

// Ask tells why goods could not be taken.
func (s *Server) Ask(_ context.Context, in *shoppb.TakeRequest) (*shoppb.AskReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &shoppb.AskReply{}, s.lacks(in)
}

// lacks is why goods cannot be taken. s.mu is held.
func (s *Server) lacks(in *shoppb.TakeRequest) error {
	if in.GetQuantity() < 1 {
		return status.Errorf(codes.InvalidArgument, "quantity %d is less than 1", in.GetQuantity())
	}
	if left := s.left[in.GetItem()]; left < in.GetQuantity() {
		return outOfStock(&shoppb.OutOfStock{Item: in.GetItem(), Wanted: in.GetQuantity(), Left: left})
	}
	return nil
}

// Take hands goods out, all of them or none.
func (s *Server) Take(ctx context.Context, in *shoppb.TakeRequest) (*shoppb.TakeReply, error) {
	branch, isStep := client.BranchFrom(ctx)
	err := s.takeOff(in)
	switch {
	case isStep && err != nil:
		return s.taken(ctx, in, err)
	case isStep:
		err = s.noteTaken(ctx, branch, in)
	}
	if err != nil {
		return nil, err
	}
	return &shoppb.TakeReply{Shelf: s.name}, nil
}

func (s *Server) takeOff(in *shoppb.TakeRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.lacks(in); err != nil {
		return err
	}
	s.left[in.GetItem()] -= in.GetQuantity()
	return nil
}

func (s *Server) putOn(in *shoppb.TakeRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left[in.GetItem()] += in.GetQuantity()
}

// words are what an error says to people.
func words(err error) string { return status.Convert(err).Message() }

// outOfStock says it in words for people and in a message for programs.
func outOfStock(why *shoppb.OutOfStock) error {
	plain := status.New(codes.FailedPrecondition, fmt.Sprintf("%d of %s are wanted, %d are left", why.GetWanted(), why.GetItem(), why.GetLeft()))
	detailed, err := plain.WithDetails(why)
	if err != nil {
		return plain.Err()
	}
	return detailed.Err()
}

// Restock takes deliveries in until the lorry has gone.
func (s *Server) Restock(in grpc.ClientStreamingServer[shoppb.Delivery, shoppb.RestockReply]) error {
	sum := &shoppb.RestockReply{}
	for {
		d, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(sum)
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.left[d.GetItem()] += d.GetQuantity()
		s.mu.Unlock()
		sum.Deliveries++
		sum.Pieces += d.GetQuantity()
	}
}

// Inspect tells what is on the shelf, and what it was asked.
func (s *Server) Inspect(context.Context, *shoppb.InspectRequest) (*shoppb.Shelf, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &shoppb.Shelf{Name: s.name, Left: maps.Clone(s.left), PriceQuestions: s.priceQuestions, GivenUp: s.givenUp}, nil
}
