// Package postgrestest finds the real server that tests of drivers run on.
package postgrestest

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
)

// Options are those for the server, which the environment must name, with a schema that is the caller's alone.
func Options(t testing.TB) postgresconn.Options {
	t.Helper()
	o := postgresconn.Defaults()
	o.Addresses, o.User, o.Password = []string{os.Getenv("OUTRIGGER_POSTGRES")}, os.Getenv("OUTRIGGER_POSTGRES_USER"), components.Secret(os.Getenv("OUTRIGGER_POSTGRES_PASSWORD"))
	if o.Addresses[0] == "" {
		t.Fatal("OUTRIGGER_POSTGRES is not set: go run ./integration/servers/cmd postgres -- go test -tags servers ...")
	}
	o.Schema = "t_" + strings.ToLower(rand.Text())
	return o
}

// Open is a connection past the driver, for as long as the test lasts.
func Open(t testing.TB, o postgresconn.Options) *postgresconn.Client {
	t.Helper()
	c, release, err := postgresconn.Open(t.Context(), components.Env{}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return c
}

// Number is what a statement answers, 0 if that is nothing.
func Number(t testing.TB, c *postgresconn.Client, sql string, args ...any) (n int64) {
	t.Helper()
	if err := c.Do(t.Context(), postgresconn.Statement{SQL: sql, Args: args, Row: postgresconn.Scan(&n)}); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}
