package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	"github.com/outrigger-mesh/outrigger/components/cache/cachetest"
	"github.com/outrigger-mesh/outrigger/components/cache/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a store with the defaults, as far as change leaves them.
func open(t testing.TB, change func(o *memory.Options)) cache.Driver {
	t.Helper()
	decoded, err := cache.Drivers.Decode("memory", func(o any) error {
		change(o.(*memory.Options))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := cache.Drivers.Open(t.Context(), "memory", components.Env{}, decoded)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func defaults(*memory.Options) {}

func TestConformance(t *testing.T) {
	cachetest.Run(t, func(t *testing.T) cache.Driver { return open(t, defaults) })
}
