package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/examples/shop/orders"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// caching is what the cache is good for.
var caching = scene{"Prices are kept in the cache", []check{
	{"cache-hit", "two orders of plums: the shelf is asked for the price once", cacheHit, func(_ context.Context, s *shop) error {
		return s.during(func(ctx context.Context) error { // somebody empties the cache all the time
			return s.counter.Cache("prices").Delete(ctx, "plum")
		})
	}},
	{"cache-ttl", "the price is forgotten after its time to live, and asked for again", cacheTTL, func(_ context.Context, s *shop) error {
		return s.during(func(ctx context.Context) error { // somebody keeps the old price alive
			if err := s.counter.Cache("prices").Touch(ctx, "pear", time.Hour); !errors.Is(err, client.ErrNotFound) {
				return err
			}
			return nil
		})
	}},
	{"cas-conflict", "two tills change one basket, both from the version they saw: one of them must look again", casConflict, func(_ context.Context, s *shop) error {
		return s.during(func(ctx context.Context) error { // a third till changes it all the time, and looks at no version
			_, err := s.customer.Cache("baskets").Set(ctx, "basket", client.Item{Value: []byte("pears")})
			return err
		})
	}},
}}

func cacheHit(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "1 question"
	before, err := s.priceQuestions(ctx)
	for range 2 {
		if err == nil {
			_, err = s.buy(ctx, "plum", 1)
		}
	}
	if err != nil {
		return expected, "", err
	}
	after, err := s.priceQuestions(ctx)
	return expected, count(after-before, "question"), err
}

func cacheTTL(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = fmt.Sprintf("gone within %v; then 1 question", orders.PriceTTL)
	if _, err := s.buy(ctx, "pear", 1); err != nil {
		return expected, "", err
	}
	item, err := s.counter.Cache("prices").Get(ctx, "pear")
	if err != nil {
		return expected, "", err
	}
	if item.TTL > orders.PriceTTL {
		seen = fmt.Sprintf("kept for %v; ", item.TTL.Round(time.Second))
	}
	for there := true; there; {
		if err := pause(ctx); err != nil {
			return expected, seen + "still there", nil
		}
		if there, err = s.counter.Cache("prices").Exists(ctx, "pear"); err != nil {
			return expected, seen, err
		}
	}
	before, err := s.priceQuestions(ctx)
	if err != nil {
		return expected, seen, err
	}
	if _, err := s.buy(ctx, "pear", 1); err != nil {
		return expected, seen, err
	}
	after, err := s.priceQuestions(ctx)
	return expected, seen + fmt.Sprintf("gone within %v; then %s", orders.PriceTTL, count(after-before, "question")), err
}

func casConflict(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "1 written, 1 refused (VERSION_MISMATCH)"
	baskets := s.customer.Cache("baskets")
	version, err := baskets.Set(ctx, "basket", client.Item{Value: []byte("apples")})
	if err != nil {
		return expected, "", err
	}
	time.Sleep(between)
	var both [2]error
	var tills sync.WaitGroup
	for i := range both {
		tills.Go(func() {
			_, both[i] = baskets.Set(ctx, "basket", client.Item{Value: fmt.Appendf(nil, "apples of till %d", i)}, client.IfVersion(version))
		})
	}
	tills.Wait()
	written, refused := 0, 0
	for _, err := range both {
		switch {
		case err == nil:
			written++
		case errors.Is(err, client.ErrVersionMismatch):
			refused++
		default:
			return expected, "", err
		}
	}
	return expected, fmt.Sprintf("%d written, %d refused (VERSION_MISMATCH)", written, refused), nil
}

// count is a number of things in words.
func count(n int32, thing string) string {
	if n != 1 {
		thing = strings.TrimSuffix(thing, "s") + "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
