package stock

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// What the shelves share: the state component "ledger" and in it, under LedgerKey, the last stocktaking; the lock of the same
// name, of the component "keys", which the one who writes has to have; the jobs of the component "clock".
const (
	LedgerKey   = "ledger"
	CountedKey  = "counted/" // before FIRING/SHELF: the shelf took stock when the job fired
	ledgerLease = 500 * time.Millisecond
)

// Office is what a shelf needs for its stocktaking.
type Office struct {
	Keys   *client.Lock
	Ledger *client.State
	Clock  *client.Schedule
}

// NewOffice is the office of this application.
func NewOffice(sidecar *client.Client) Office {
	return Office{sidecar.Lock("keys"), sidecar.State("ledger"), sidecar.Schedule("clock")}
}

// TakeStock lets a clerk count.
func (s *Server) TakeStock(clerk grpc.BidiStreamingServer[shoppb.Clerk, shoppb.Stocktaking]) error {
	if _, err := clerk.Recv(); err != nil {
		return err
	}
	held, err := s.office.Keys.Acquire(clerk.Context(), LedgerKey, ledgerLease)
	if err != nil {
		return err
	}
	defer held.Unlock()
	if err := clerk.Send(&shoppb.Stocktaking{Token: held.Token()}); err != nil {
		return err
	}
	if _, err := clerk.Recv(); err != nil {
		return err
	}
	entry, err := s.write(clerk.Context(), held)
	if err != nil {
		return err
	}
	return clerk.Send(&shoppb.Stocktaking{Token: held.Token(), Entry: entry})
}

// write enters what is on the shelf. It does not look whether it still has the lock, which may be gone a moment later: the write
// carries the fence, and the ledger refuses it when another has had the lock since.
func (s *Server) write(ctx context.Context, held *client.HeldLock) (entry string, err error) {
	entry = s.count()
	_, err = s.office.Ledger.Set(ctx, LedgerKey, client.Item{Value: []byte(entry)}, held.Fence())
	return entry, err
}

func (s *Server) count() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, item := range slices.Sorted(maps.Keys(s.left)) {
		all = append(all, fmt.Sprintf("%d %s", s.left[item], item))
	}
	return s.name + ": " + strings.Join(all, ", ")
}

// KeepHours takes stock whenever a job says so, until ctx ends, and answers its error. All shelves do: each firing goes to one.
func (s *Server) KeepHours(ctx context.Context) error {
	return s.office.Clock.Handle(ctx, client.HandleOptions{}, func(ctx context.Context, f client.Firing) error {
		held, err := s.office.Keys.Acquire(ctx, LedgerKey, ledgerLease)
		if err != nil {
			return err
		}
		defer held.Unlock()
		if _, err := s.write(ctx, held); err != nil {
			return err
		}
		_, err = s.office.Ledger.Set(ctx, CountedKey+f.ID+"/"+s.name, client.Item{})
		return err
	})
}
