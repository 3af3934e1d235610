//go:build mutants

package local_test

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/pubsubtest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "pubsub", pubsubtest.Mutants(), func(t *testing.T, breakIt func(pubsub.Driver) pubsub.Driver) {
		pubsubtest.Run(t, func(t *testing.T) pubsubtest.Opener {
			open := backend(t)
			return func(t *testing.T, p pubsub.Policy) pubsub.Driver { return breakIt(open(t, p)) }
		})
	})
}
