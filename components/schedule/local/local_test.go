package local_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/schedule"
	"github.com/outrigger-mesh/outrigger/components/schedule/local"
	"github.com/outrigger-mesh/outrigger/components/schedule/scheduletest"
)

const skipAfter = 300 * time.Millisecond

// backend is a store of its own.
func backend(t *testing.T) scheduletest.Backend { return process(t, t.TempDir()) }

// process opens drivers on a folder as one process would.
func process(t *testing.T, dir string) scheduletest.Backend {
	shared := components.NewShared()
	return scheduletest.Backend{SkipAfter: skipAfter, Open: func() schedule.Driver {
		options, err := schedule.Drivers.Decode("local", func(o any) error {
			o.(*local.Options).SkipAfter = skipAfter
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		d, err := schedule.Drivers.Open(context.WithoutCancel(t.Context()), "local", env(dir, shared, t.Output()), options)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}}
}

func env(dir string, shared *components.Shared, log io.Writer) components.Env {
	return components.Env{ID: components.ID{Capability: "schedule", Name: "default", Driver: "local"}, Logger: slog.New(slog.NewTextHandler(log, nil)),
		DataDir: dir, Shared: shared}
}

func TestConformance(t *testing.T) { scheduletest.Run(t, backend) }

// TestConformanceOfAClient has the store owned by somebody else, who is called over the socket.
func TestConformanceOfAClient(t *testing.T) {
	scheduletest.Run(t, func(t *testing.T) scheduletest.Backend {
		dir := t.TempDir()
		owner := process(t, dir).Open()
		t.Cleanup(func() {
			if err := owner.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
		return process(t, dir)
	})
}
