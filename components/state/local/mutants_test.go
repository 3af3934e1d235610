//go:build mutants

package local_test

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/state"
	"github.com/outrigger-mesh/outrigger/components/state/statetest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "state", statetest.Mutants(), func(t *testing.T, breakIt func(state.Driver) state.Driver) {
		open := opener(t.TempDir())
		statetest.Run(t, func(t *testing.T) state.Driver { return breakIt(open(t)) })
	})
}
