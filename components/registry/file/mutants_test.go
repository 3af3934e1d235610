//go:build mutants

package file_test

import (
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "registry", registrytest.Mutants(), func(t *testing.T, breakIt func(registry.Driver) registry.Driver) {
		registrytest.Run(t, func(t *testing.T) registrytest.Backend {
			b := backend(t)
			sound := b.Open
			b.Open = func() registry.Driver { return breakIt(sound()) }
			b.Patience = 2 * time.Second
			return b
		})
	})
}
