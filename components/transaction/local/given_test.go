package local

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// TestGivenOnce: what waits for a session is given to it once, though it is decided at the same moment; given twice, its calls would be made again.
func TestGivenOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	env := components.Env{ID: components.ID{Name: "default"}, DataDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Shared: components.NewShared()}
	opened, err := Open(ctx, env, Options{Durability: "os", Timeout: time.Minute, CallTimeout: time.Second, FirstPause: time.Second, LongPause: time.Second,
		Lease: 10 * time.Second, Concurrency: 1, MaxUnfinished: 10, Retention: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	d := opened.(*driver)
	defer d.Close(ctx)
	target := transaction.Target{Service: "s", Method: "m"}
	content := transaction.Content{Kind: transaction.Message, Policy: d.Defaults(), Check: target, Branches: []transaction.Branch{{ID: "1", Do: target}}}
	for i := range 200 {
		key := fmt.Sprint("a/b/", i)
		if _, err := d.Begin(ctx, key, content); err != nil {
			t.Fatal(err)
		}
		var calls atomic.Int32
		driving, stop := context.WithCancel(ctx)
		over := make(chan struct{})
		go func() {
			defer close(over)
			_ = d.Drive(driving, "a/b/", func(context.Context, *transaction.Call) error { calls.Add(1); return nil })
		}()
		_, err := d.Decide(ctx, key, transaction.Commit)
		if err == nil {
			_, err = d.Wait(ctx, key)
		}
		stop()
		<-over
		if n := calls.Load(); err != nil || n != 1 {
			t.Fatalf("%d: %d calls, %v", i, n, err)
		}
	}
}
