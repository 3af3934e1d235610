package local

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// TestFrozen: a coordinator that says nothing for its lease loses what it drives, and can change nothing of it when it wakes.
func TestFrozen(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	env := components.Env{ID: components.ID{Name: "default"}, DataDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Shared: components.NewShared()}
	opened, err := Open(ctx, env, Options{Durability: "os", Timeout: time.Minute, CallTimeout: time.Second, FirstPause: time.Second, LongPause: time.Second,
		Lease: time.Second, Concurrency: 1, MaxUnfinished: 10, Retention: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	d := opened.(*driver)
	defer d.Close(ctx)
	frozen, err := driveCall.Open(ctx, d.Link)
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	if err := frozen.Send(driveIn{Start: &driveStart{Application: "default/a/b/", Lease: 300 * time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
	if _, err := frozen.Recv(); err != nil {
		t.Fatal(err)
	}
	target := transaction.Target{Service: "s", Method: "m"}
	content := transaction.Content{Kind: transaction.Saga, Policy: d.Defaults(), Branches: []transaction.Branch{{ID: "1", Do: target, Undo: target}}}
	if _, err := d.Begin(ctx, "a/b/g", content); err != nil {
		t.Fatal(err)
	}
	out, err := frozen.Recv()
	if err != nil || len(out.Work) != 1 {
		t.Fatal(out, err)
	}
	had := out.Work[0]

	driving, stop := context.WithCancel(ctx)
	called, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		_ = d.Drive(driving, "a/b/", func(ctx context.Context, _ *transaction.Call) error {
			close(called)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	defer func() { stop(); <-over }()
	select {
	case <-called:
	case <-ctx.Done():
		t.Fatal("nobody else drives it")
	}
	late := had.Run
	late.State = transaction.Committed
	if _, err := writeCall.Call(ctx, d.Link, writeIn{Key: had.Key, Epoch: had.Epoch, Revision: 1, Run: late}); !errors.Is(err, components.ErrPrecondition) {
		t.Errorf("who was frozen writes: %v", err)
	}
	if info, err := d.Get(ctx, "a/b/g"); err != nil || info.State != transaction.Running {
		t.Errorf("%+v, %v", info, err)
	}
}
