package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	"github.com/outrigger-mesh/outrigger/examples/shop/stock"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// stocktaking is what two instances of an application do by turns: one lock, one ledger, one clock.
var stocktaking = scene{"Two shelves take stock", []check{
	{"lock-fenced", "shelf-2 has the ledger's lock and freezes (SIGSTOP); shelf-1 gets it in time; when shelf-2 wakes, what it writes is refused", lockFenced, func(_ context.Context, s *shop) error {
		s.frost = syscall.SIGURG // which nobody freezes by
		return nil
	}},
	{"job-fires-once", "a job is due five times in a second, and both shelves wait for it: each time one of them takes stock", jobFiresOnce, func(ctx context.Context, s *shop) error {
		// A second job calls them too.
		_, err := s.clerk.Schedule("clock").Create(ctx, client.Job{Name: "fire-drill", Trigger: client.Every(jobEvery / 2)})
		return err
	}},
}}

// counting is a clerk at a shelf.
type counting = grpc.BidiStreamingClient[shoppb.Clerk, shoppb.Stocktaking]

var servingOn = regexp.MustCompile(`stock: serving on (\S+),`)

// clerkAt sends a clerk to the one shelf that a process serves, who asks for the ledger.
func clerkAt(ctx context.Context, p *process) (counting, *grpc.ClientConn, error) {
	at := servingOn.FindStringSubmatch(p.output())
	if at == nil {
		return nil, nil, fmt.Errorf("%s does not say where it serves", p.name)
	}
	conn, err := grpc.NewClient(at[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	clerk, err := shoppb.NewStockClient(conn).TakeStock(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	_ = clerk.Send(&shoppb.Clerk{}) // why it failed is told when receiving
	return clerk, conn, nil
}

// counted tells the shelf that all is counted, and answers what was written.
func counted(clerk counting) (string, error) {
	_ = clerk.Send(&shoppb.Clerk{}) // as before
	done, err := clerk.Recv()
	return done.GetEntry(), err
}

func lockFenced(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "a greater token for shelf-1; shelf-2: STALE_FENCE; in the ledger: shelf-1"
	if err := s.secondShelf(ctx); err != nil {
		return expected, "", err
	}
	second, conn, err := clerkAt(ctx, s.shelf2App)
	if err != nil {
		return expected, "", err
	}
	defer conn.Close()
	has, err := second.Recv()
	if err != nil {
		return expected, "", err
	}
	s.shelf2App.signal(s.frost)
	defer s.shelf2App.signal(syscall.SIGCONT)
	first, conn, err := clerkAt(ctx, s.stock.process)
	if err != nil {
		return expected, "", err
	}
	defer conn.Close()
	gets, err := first.Recv() // when the lease is over
	if err != nil {
		return expected, "shelf-1 waits for the lock", err
	}
	if seen = "no greater token for shelf-1"; gets.GetToken() > has.GetToken() {
		seen = "a greater token for shelf-1"
	}
	if _, err := counted(first); err != nil {
		return expected, seen, err
	}
	s.shelf2App.signal(syscall.SIGCONT)
	_, late := counted(second)
	ledger, err := s.clerk.State("ledger").Get(ctx, stock.LedgerKey)
	who, _, _ := strings.Cut(string(ledger.Value), ":")
	return expected, seen + "; shelf-2: " + client.Reason(late) + "; in the ledger: " + who, err
}

const (
	jobTimes = 5
	jobEvery = 200 * time.Millisecond
)

func jobFiresOnce(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = fmt.Sprintf("%d firings, %d stocktakings", jobTimes, jobTimes)
	if err := s.secondShelf(ctx); err != nil {
		return expected, "", err
	}
	clock := s.clerk.Schedule("clock")
	_, err = clock.Create(ctx, client.Job{Name: "close-the-till", Trigger: client.Every(jobEvery), Repeats: jobTimes, Missed: client.MissedAll})
	if err != nil {
		return expected, "", err
	}
	for {
		job, err := clock.Get(ctx, "close-the-till")
		if err != nil {
			return expected, seen, err
		}
		done := map[string]int{}
		for e, err := range s.clerk.State("ledger").List(ctx, stock.CountedKey) {
			if err != nil {
				return expected, seen, err
			}
			done[path.Base(e.Key)]++
		}
		seen = fmt.Sprintf("%d firings, %d stocktakings", job.Fired, done["shelf-1"]+done["shelf-2"])
		if job.Next.IsZero() && done["shelf-1"]+done["shelf-2"] >= jobTimes {
			s.besides = fmt.Sprintf("%d by shelf-1, %d by shelf-2", done["shelf-1"], done["shelf-2"])
			return expected, seen, nil
		}
		if pause(ctx) != nil {
			return expected, seen, nil
		}
	}
}
