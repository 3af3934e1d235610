package orders

import (
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
)

// behind is how many orders a watcher may be behind.
const behind = 256

// watchers are those who want to hear of orders.
type watchers struct {
	mu  sync.Mutex
	all map[chan *shoppb.Order]bool
}

func (w *watchers) add() chan *shoppb.Order {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[chan *shoppb.Order]bool{}
	}
	c := make(chan *shoppb.Order, behind)
	w.all[c] = true
	return c
}

func (w *watchers) remove(c chan *shoppb.Order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, c)
}

// tell never waits: a watcher that has fallen behind is let go, which it hears.
func (w *watchers) tell(o *shoppb.Order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.all {
		select {
		case c <- o:
		default:
			delete(w.all, c)
			close(c)
		}
	}
}

// WatchOrders sends each order that is placed from now on. Its headers come at once, to say that it watches.
func (s *Server) WatchOrders(_ *shoppb.WatchOrdersRequest, out grpc.ServerStreamingServer[shoppb.Order]) error {
	c := s.watchers.add()
	defer s.watchers.remove(c)
	if err := out.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for {
		select {
		case <-out.Context().Done():
			return status.FromContextError(out.Context().Err()).Err()
		case o, ok := <-c:
			if !ok {
				return status.Errorf(codes.ResourceExhausted, "the watcher is more than %d orders behind", behind)
			}
			if err := out.Send(o); err != nil {
				return err
			}
		}
	}
}
