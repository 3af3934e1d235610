//go:build mutants

package local_test

import (
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/config/configtest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "config-local", configtest.Mutants(), func(t *testing.T, breakIt func(config.Driver) config.Driver) {
		configtest.Run(t, func(t *testing.T) configtest.Backend {
			b := backend(t)
			b.Driver = breakIt(b.Driver)
			b.Patience = 2 * time.Second
			return b
		})
	})
}
