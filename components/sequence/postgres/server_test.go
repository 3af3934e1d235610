//go:build servers

package postgres_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/sequence/postgres"
	"github.com/outrigger-mesh/outrigger/components/sequence/sequencetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func server(t testing.TB) postgresconn.Options {
	t.Helper()
	o := postgresconn.Defaults()
	o.Addresses, o.User, o.Password = []string{os.Getenv("OUTRIGGER_POSTGRES")}, os.Getenv("OUTRIGGER_POSTGRES_USER"), components.Secret(os.Getenv("OUTRIGGER_POSTGRES_PASSWORD"))
	if o.Addresses[0] == "" {
		t.Fatal("OUTRIGGER_POSTGRES is not set: go run ./integration/servers/cmd postgres -- go test -tags servers ...")
	}
	return o
}

// opener makes drivers of one sidecar.
func opener(o postgres.Options) func(t *testing.T) sequence.Driver {
	env := components.Env{ID: components.ID{Capability: "sequence", Name: "default", Driver: "postgres"}, Logger: slog.New(slog.DiscardHandler), Shared: components.NewShared()}
	return func(t *testing.T) sequence.Driver {
		t.Helper()
		d, err := postgres.Open(context.WithoutCancel(t.Context()), env, o)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func options(t testing.TB) postgres.Options {
	t.Helper()
	o, _ := sequence.Drivers.Defaults("postgres")
	all := o.(postgres.Options)
	all.Postgres = server(t)
	return all
}

func TestConformance(t *testing.T) { sequencetest.Run(t, opener(options(t))) }
