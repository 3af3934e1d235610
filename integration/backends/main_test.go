// Package backends_test runs sidecars on real servers, and stops, kills and freezes those under load.
package backends_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

func TestMain(m *testing.M) {
	if err := servers.Private(); err != nil {
		fmt.Println("in the network of the machine, where what listens on all interfaces does not start:", err)
	}
	os.Exit(harness.Main(m))
}
