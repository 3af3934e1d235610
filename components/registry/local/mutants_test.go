//go:build mutants

package local_test

import (
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "registry-local", registrytest.Mutants(), func(t *testing.T, breakIt func(registry.Driver) registry.Driver) {
		registrytest.Run(t, func(t *testing.T) registrytest.Backend {
			one := components.NewShared()
			b := backend(t, func() *components.Shared { return one })
			sound := b.Open
			b.Open = func() registry.Driver { return breakIt(sound()) }
			b.Patience = 2 * time.Second
			return b
		})
	})
}
