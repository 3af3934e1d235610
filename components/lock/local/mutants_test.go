//go:build mutants

package local_test

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/locktest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "lock", locktest.Mutants(), func(t *testing.T, breakIt func(lock.Driver) lock.Driver) {
		open := folder(t, "os")
		locktest.Run(t, func(t *testing.T) lock.Driver { return breakIt(open(t)) })
	})
}
