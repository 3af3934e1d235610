// Package mesh drives stock peers of the mesh's protocols through sidecars: none of them knows that there is one.
package mesh

import (
	"os"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
