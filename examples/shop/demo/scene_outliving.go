package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/examples/shop/shipping"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// outliving is the end of the process that has the files of the store open, which all sidecars share.
var outliving = scene{"The owner of the store ends in the middle of it", []check{
	{"owner-killed", "four customers order all the time, and the sidecar that owns the store is killed (kill -9): what was acknowledged is in the book", ownerKilled, func(_ context.Context, s *shop) error {
		return s.during(func(ctx context.Context) error { // somebody tears the pages out
			return tear(ctx, s.counter.State("book"), "")
		})
	}},
	{"events-survive", "each of these orders was made known and packed, once, and each customer's one after the other", eventsSurvive, func(ctx context.Context, s *shop) error {
		if len(s.crowd.orders) == 0 {
			return errors.New("there are no orders")
		}
		var lost error
		for customer := range s.crowd.orders { // somebody steals a tally
			lost = errors.Join(lost, s.parcels.State(shipping.Parcels).Delete(ctx, shipping.TallyKey(customer)))
		}
		return lost
	}},
}}

// crowd is customers who order one thing after the other. Those who get nothing try again: it is another order.
type crowd struct {
	done chan struct{}
	all  sync.WaitGroup

	mu      sync.Mutex
	orders  map[string][]int64 // acknowledged, by customer
	placed  int
	refused int
	last    time.Time     // when one was acknowledged
	longest time.Duration // from one to the next
}

var regulars = []string{"dora", "emil", "fay", "gus"}

func (s *shop) gather(ctx context.Context) *crowd {
	c := &crowd{done: make(chan struct{}), orders: map[string][]int64{}, last: time.Now()}
	for _, customer := range regulars {
		c.all.Go(func() {
			for !isClosed(c.done) && ctx.Err() == nil {
				number, err := s.orderFor(ctx, customer)
				c.note(customer, number, err)
				time.Sleep(between)
			}
		})
	}
	return c
}

// note takes down what a customer got.
func (c *crowd) note(customer string, number int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.refused++
		return
	}
	now := time.Now()
	c.longest, c.last = max(c.longest, now.Sub(c.last)), now
	c.orders[customer] = append(c.orders[customer], number)
	c.placed++
}

func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.placed
}

// more waits until n more orders are acknowledged.
func (c *crowd) more(ctx context.Context, n int) error {
	for wanted := c.count() + n; c.count() < wanted; {
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%d orders are placed, %d more are waited for: %w", c.count(), wanted-c.count(), err)
		}
	}
	return nil
}

// owner is the sidecar that has the store's files open, as an operator finds it.
func (s *shop) owner(ctx context.Context) (*sidecar, error) {
	text, err := s.outrigger(ctx, "store", "status", "-data-dir", s.path(dataDir), "-o", "json")
	if err != nil {
		return nil, fmt.Errorf("outrigger store status: %s: %w", text, err)
	}
	var status struct{ PID int }
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return nil, fmt.Errorf("outrigger store status: %q: %w", text, err)
	}
	for _, c := range []*sidecar{s.orders, s.stock, s.payments, s.shipping, s.shelf2} {
		if c != nil && c.running() && c.cmd.Process.Pid == status.PID {
			return c, nil
		}
	}
	return nil, fmt.Errorf("process %d owns the store, which is no sidecar of the shop", status.PID)
}

func ownerKilled(ctx context.Context, s *shop) (expected, seen string, err error) {
	c := s.gather(ctx)
	s.crowd = c
	err = c.more(ctx, enough)
	var before, after *sidecar
	if err == nil {
		before, err = s.owner(ctx)
	}
	if err == nil {
		before.kill()
		err = before.start(ctx)
	}
	if err == nil {
		err = c.more(ctx, enough)
	}
	close(c.done)
	c.all.Wait()
	expected = fmt.Sprintf("%d of %d orders", c.placed, c.placed)
	if err != nil {
		return expected, "", err
	}
	if after, err = s.owner(ctx); err != nil {
		return expected, "", err
	}
	s.besides = fmt.Sprintf("%s owned the store, %s owns it now; the longest time without an order: %d ms; customers who had to order again: %d",
		before.title, after.title, c.longest.Milliseconds(), c.refused)
	there := 0
	for _, numbers := range c.orders {
		for _, number := range numbers {
			if _, err := s.written(ctx, number); err == nil {
				there++
			} else if !errors.Is(err, client.ErrNotFound) {
				return expected, "", err
			}
		}
	}
	return expected, fmt.Sprintf("%d of %d orders", there, c.placed), nil
}

func eventsSurvive(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = fmt.Sprintf("%d orders packed; none of them twice, none before an earlier one", s.crowd.placed)
	packed, twice, early := 0, 0, 0
	for customer, numbers := range s.crowd.orders {
		last := 0
		for _, number := range numbers {
			p, err := s.packed(ctx, number)
			if err != nil {
				return expected, fmt.Sprintf("%d orders packed", packed), err
			}
			packed++
			if p.Nth <= last {
				early++
			}
			last = p.Nth
		}
		more, err := s.packedTwice(ctx, customer)
		for err == nil && more != 0 && pause(ctx) == nil { // an order that nobody acknowledged may be under way
			more, err = s.packedTwice(ctx, customer)
		}
		if err != nil {
			return expected, "", err
		}
		twice += more
	}
	return expected, fmt.Sprintf("%d orders packed; %s of them twice, %s before an earlier one", packed, noneOr(twice), noneOr(early)), nil
}

// packedTwice is how many more parcels a customer's tally has than there are.
func (s *shop) packedTwice(ctx context.Context, customer string) (n int, err error) {
	for e, err := range s.parcels.State(shipping.Parcels).ListValues(ctx, shipping.ParcelPrefix) {
		if err != nil {
			return 0, err
		}
		var p shipping.Parcel
		if err := json.Unmarshal(e.Item.Value, &p); err != nil {
			return 0, err
		}
		if p.Customer == customer {
			n--
		}
	}
	tally, err := s.parcels.State(shipping.Parcels).Get(ctx, shipping.TallyKey(customer))
	if err != nil {
		return 0, err
	}
	var all int
	_, err = fmt.Sscan(string(tally.Value), &all)
	return n + all, err
}

func noneOr(n int) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}
