package local_test

import (
	"context"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/config/configtest"
	"github.com/outrigger-mesh/outrigger/components/config/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens a driver on a folder; without shared it is a process of its own.
func open(t *testing.T, dir string, shared *components.Shared) config.Driver {
	t.Helper()
	env := components.Env{ID: components.ID{Capability: "config", Name: "default", Driver: "local"}, Logger: slog.New(slog.DiscardHandler),
		DataDir: dir, Shared: shared}
	d, err := local.Open(context.WithoutCancel(t.Context()), env, local.Options{Durability: "disk"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, d) })
	return d
}

// past is the way to a store past the driver that is tested: another one.
func past(t *testing.T, other config.Driver, d config.Driver) configtest.Backend {
	return configtest.Backend{Driver: d,
		Put: func(key, value string) {
			if _, err := other.(config.Setter).Set(t.Context(), config.Item{Key: key, Value: []byte(value)}, ""); err != nil {
				t.Error(err)
			}
		},
		Remove: func(key string) {
			if err := other.(config.Deleter).Delete(t.Context(), key); err != nil {
				t.Error(err)
			}
		}}
}

// backend has one process own the store, and two components in it.
func backend(t *testing.T) configtest.Backend {
	dir, shared := t.TempDir(), components.NewShared()
	other := open(t, dir, shared)
	return past(t, other, open(t, dir, shared))
}

func TestConformance(t *testing.T) { configtest.Run(t, backend) }

// TestConformanceOfAClient has the store owned by somebody else, who is called over the socket.
func TestConformanceOfAClient(t *testing.T) {
	configtest.Run(t, func(t *testing.T) configtest.Backend {
		dir := t.TempDir()
		owner := open(t, dir, components.NewShared())
		return past(t, owner, open(t, dir, components.NewShared()))
	})
}

// TestTheOwnerGoes: a watch of a client goes on when another process has taken over, and versions do not come back.
func TestTheOwnerGoes(t *testing.T) {
	dir := t.TempDir()
	owner := open(t, dir, components.NewShared())
	client := open(t, dir, components.NewShared())
	set := func(value string) string {
		t.Helper()
		version, err := client.(config.Setter).Set(t.Context(), config.Item{Key: "ns/k", Value: []byte(value)}, "")
		if err != nil {
			t.Fatal(err)
		}
		return version
	}
	before := set("before")
	told := make(chan string, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- client.Watch(ctx, config.Selection{Keys: []string{"ns/k"}}, func(changes []config.Change, _ bool) error {
			for _, c := range changes {
				told <- string(c.Item.Value)
			}
			return nil
		})
	}()
	want := func(value string) {
		t.Helper()
		for got := ""; got != value; {
			select {
			case got = <-told:
			case err := <-ended:
				t.Fatalf("the watch has ended: %v", err)
			}
		}
	}
	want("before")
	if err := owner.(components.Closer).Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := set("after")
	want("after")
	if before == after {
		t.Errorf("two values have the version %q", after)
	}
	stop()
	<-ended
}
