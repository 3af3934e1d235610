package componenttest

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Component is what the front of a capability needs to stand before a driver.
func Component[D any](capability string, driver D) *components.Component[D] {
	c := components.NewComponent[D](components.ID{Capability: capability, Name: "conformance", Driver: "tested"}, components.Limits{}, nil)
	c.Set(driver)
	return c
}

// Caller is an application that no other test is.
func Caller() components.Caller {
	return components.Caller{Namespace: "conformance", App: strings.ToLower(rand.Text()[:12])}
}

// Defaults are a driver's options before anybody has set any.
func Defaults[O, D any](t testing.TB, r *components.Registry[D], driver string) O {
	t.Helper()
	all, _ := r.Defaults(driver)
	o, ok := all.(O)
	if !ok {
		t.Fatalf("the defaults of %s are %T", driver, all)
	}
	return o
}

// Opener opens drivers of one sidecar: they share what those do. Who has it open one closes that.
func Opener[O, D any](capability, driver string, open func(context.Context, components.Env, O) (D, error), o O) func(t *testing.T) D {
	env := components.Env{ID: components.ID{Capability: capability, Name: "default", Driver: driver}, Logger: slog.New(slog.DiscardHandler), Shared: components.NewShared()}
	return func(t *testing.T) D {
		t.Helper()
		d, err := open(context.WithoutCancel(t.Context()), env, o)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

// Close closes a driver that can be closed.
func Close(t *testing.T, driver any) {
	t.Helper()
	if c, ok := driver.(components.Closer); ok {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// Eventually waits until a condition holds, which answers why it does not yet.
func Eventually(t *testing.T, patience time.Duration, holds func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = holds(); err == nil {
			return
		}
	}
	t.Fatalf("after %v: %v", patience, err)
}

// Together calls do n times at once, and waits for all of them.
func Together(n int, do func(i int)) {
	start := make(chan struct{})
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	running.Wait()
}
