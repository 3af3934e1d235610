//go:build mutants

package local_test

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/sequence/sequencetest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "sequence", sequencetest.Mutants(), func(t *testing.T, breakIt func(sequence.Driver) sequence.Driver) {
		open := folder(t, 1000)
		sequencetest.Run(t, func(t *testing.T) sequence.Driver { return breakIt(open(t)) })
	})
}
