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

// Dropping has each called for each thing that a driver has made in its schema, and then for all of it, to drop that and to use the driver. In the end all has
// to be there again, and the log, which the driver has, to tell of it.
func Dropping(t testing.TB, o postgresconn.Options, log *Log, each func(what string, drop func())) {
	t.Helper()
	c := Open(t, o)
	all := drops(t, c, o)
	for _, what := range all {
		each(what, func() { Drop(t, c, what) })
	}
	if now := drops(t, c, o); len(now) != len(all) {
		t.Errorf("there are %d things, and were %d", len(now), len(all))
	}
	if n := log.Made(); n < 2 || n > len(all) {
		t.Errorf("of %d drops it is said %d times", len(all), n)
	}
}

// Drop does a statement that drops something.
func Drop(t testing.TB, c *postgresconn.Client, what string) {
	t.Helper()
	if err := c.Do(t.Context(), postgresconn.Statement{SQL: what}); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// DropAll drops the schema.
func DropAll(o postgresconn.Options) string { return "drop schema " + o.Schema + " cascade" }

// drops are statements that drop the tables, sequences and functions of a schema, one each, and then all of it.
func drops(t testing.TB, c *postgresconn.Client, o postgresconn.Options) (all []string) {
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
	return append(all, DropAll(o))
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

// Env is an environment for a driver that logs here.
func (l *Log) Env() components.Env {
	return components.Env{ID: components.ID{Name: "default"}, Logger: slog.New(slog.NewTextHandler(l, nil))}
}

// Made is how often it was said that tables were made anew.
func (l *Log) Made() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), "made anew")
}
