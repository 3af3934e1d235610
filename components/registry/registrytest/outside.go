package registrytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// Through is a back end that is changed from outside by another instance of the driver.
func Through(t *testing.T, open func() registry.Driver) Backend {
	outside := open()
	return Backend{
		Open: open,
		Put: func(r registry.Record) {
			if err := outside.Register(t.Context(), r); err != nil {
				t.Error(err)
			}
		},
		Remove: func(s registry.Service, address string) {
			if err := outside.Deregister(t.Context(), s, address); err != nil {
				t.Error(err)
			}
		}}
}

// Latest watches a service until the test's end, and answers the list that it was told last.
func Latest(t *testing.T, d registry.Driver, s registry.Service) func() []registry.Record {
	t.Helper()
	var mu sync.Mutex
	var list []registry.Record
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- d.Watch(ctx, s, func(all []registry.Record) error {
			mu.Lock()
			defer mu.Unlock()
			list = all
			return nil
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch has ended: %v", err)
		}
	})
	return func() []registry.Record { mu.Lock(); defer mu.Unlock(); return list }
}

// Weights waits until a list has records of these weights.
func Weights(t *testing.T, now func() []registry.Record, weights ...int) {
	t.Helper()
	componenttest.Eventually(t, 20*time.Second, func() error {
		got := []int{}
		for _, r := range now() {
			got = append(got, r.Weight)
		}
		if !slices.Equal(got, weights) {
			return fmt.Errorf("weights %v, want %v", got, weights)
		}
		return nil
	})
}
