package local_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	_ "github.com/outrigger-mesh/outrigger/components/transaction/local"
	"github.com/outrigger-mesh/outrigger/components/transaction/transactiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var policy = transaction.Policy{Timeout: time.Minute, CallTimeout: 5 * time.Second, FirstPause: 20 * time.Millisecond, LongPause: 50 * time.Millisecond}

// process opens drivers on a folder as one process would.
func process(t *testing.T, dir string) transactiontest.Backend {
	shared := components.NewShared()
	return transactiontest.Backend{Policy: policy, Short: 800 * time.Millisecond, Open: func() transaction.Driver {
		options, err := transaction.Drivers.Decode("local", func(any) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		env := components.Env{ID: components.ID{Capability: "transaction", Name: "default", Driver: "local"}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
			DataDir: dir, Shared: shared}
		d, err := transaction.Drivers.Open(context.WithoutCancel(t.Context()), "local", env, options)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}}
}

func backend(t *testing.T) transactiontest.Backend { return process(t, t.TempDir()) }

func TestConformance(t *testing.T) { transactiontest.Run(t, backend) }

// TestConformanceOfAClient has the store owned by somebody else, who is called over the socket.
func TestConformanceOfAClient(t *testing.T) {
	transactiontest.Run(t, func(t *testing.T) transactiontest.Backend {
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
