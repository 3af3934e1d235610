//go:build mutants

package local_test

import (
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/components/transaction/transactiontest"
)

func TestMutants(t *testing.T) {
	componenttest.Catch(t, "transaction", transactiontest.Mutants(), func(t *testing.T, breakIt func(transaction.Driver) transaction.Driver) {
		transactiontest.Run(t, func(t *testing.T) transactiontest.Backend {
			b := backend(t)
			sound := b.Open
			b.Open = func() transaction.Driver { return breakIt(sound()) }
			b.Patience = 3 * time.Second
			return b
		})
	})
}
