//go:build mutants

package file_test

import (
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/secret"
	"github.com/outrigger-mesh/outrigger/components/secret/secrettest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "secret", secrettest.Mutants(), func(t *testing.T, breakIt func(secret.Driver) secret.Driver) {
		secrettest.Run(t, func(t *testing.T) secrettest.Backend {
			b := backend(t)
			b.Driver, b.Patience = breakIt(b.Driver), 500*time.Millisecond
			return b
		})
	})
}
