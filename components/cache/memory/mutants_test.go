//go:build mutants

package memory_test

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/components/cache"
	"github.com/outrigger-mesh/outrigger/components/cache/cachetest"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "cache", cachetest.Mutants(), func(t *testing.T, breakIt func(cache.Driver) cache.Driver) {
		cachetest.Run(t, func(t *testing.T) cache.Driver { return breakIt(open(t, defaults)) })
	})
}
