//go:build mutants

package local_test

import (
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/schedule"
	"github.com/outrigger-mesh/outrigger/components/schedule/scheduletest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "schedule", scheduletest.Mutants(), func(t *testing.T, breakIt func(schedule.Driver) schedule.Driver) {
		scheduletest.Run(t, func(t *testing.T) scheduletest.Backend {
			b := backend(t)
			sound := b.Open
			b.Open = func() schedule.Driver { return breakIt(sound()) }
			b.Patience = 3 * time.Second
			return b
		})
	})
}
