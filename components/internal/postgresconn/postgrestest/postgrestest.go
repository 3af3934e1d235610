// Package postgrestest finds the real server that tests of drivers run on.
package postgrestest

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

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
	c, release, err := postgresconn.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)}, o)
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

// Drops are statements that drop the tables, sequences and functions of a schema, one each, and then all of it.
func Drops(t testing.TB, c *postgresconn.Client, o postgresconn.Options) (all []string) {
	t.Helper()
	var one string
	things := `select format('drop %s %I.%I cascade', case when relkind = 'S' then 'sequence' else 'table' end, nspname, relname)
			from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = $1 and relkind in ('r', 'S')
				and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'a') union all
		select format('drop function %I.%I', nspname, proname) from pg_proc p join pg_namespace n on n.oid = pronamespace where nspname = $1`
	err := c.Do(t.Context(), postgresconn.Statement{SQL: things, Args: []any{o.Schema}, First: func() { all = nil }, Row: func(r pgx.Rows) error {
		err := r.Scan(&one)
		all = append(all, one)
		return err
	}})
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	return append(all, "drop schema "+o.Schema+" cascade")
}

// Log is what a driver logs. Safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Made is how often it was said that tables were made anew.
func (l *Log) Made() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), "made anew")
}
