package local_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/state"
	_ "github.com/outrigger-mesh/outrigger/components/state/local"
	"github.com/outrigger-mesh/outrigger/components/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opener makes drivers on one folder, as a process would.
func opener(dir string) func(t *testing.T) state.Driver {
	shared := components.NewShared()
	return func(t *testing.T) state.Driver {
		t.Helper()
		options, err := state.Drivers.Decode("local", func(any) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		env := components.Env{ID: components.ID{Capability: "state", Name: "default", Driver: "local"}, Logger: slog.New(slog.DiscardHandler),
			DataDir: dir, Shared: shared}
		d, err := state.Drivers.Open(context.WithoutCancel(t.Context()), "local", env, options)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

// apart makes the drivers of each test on a folder of its own, by what open makes of that: with the last driver of a test the store
// is closed, and the next one opens it again.
func apart(open func(t *testing.T, dir string) func(t *testing.T) state.Driver) func(t *testing.T) state.Driver {
	var mu sync.Mutex
	folders := map[*testing.T]func(t *testing.T) state.Driver{}
	return func(t *testing.T) state.Driver {
		t.Helper()
		mu.Lock()
		driver, ok := folders[t]
		if !ok {
			driver = open(t, t.TempDir())
			folders[t] = driver
		}
		mu.Unlock()
		return driver(t)
	}
}

func alone(_ *testing.T, dir string) func(t *testing.T) state.Driver { return opener(dir) }

// client has the store owned by somebody else, who is called over the socket.
func client(t *testing.T, dir string) func(t *testing.T) state.Driver {
	owner := opener(dir)(t)
	t.Cleanup(func() { componenttest.Close(t, owner) })
	return opener(dir)
}

func TestConformance(t *testing.T) { statetest.Run(t, apart(alone)) }

func TestConformanceOfAClient(t *testing.T) { statetest.Run(t, apart(client)) }
