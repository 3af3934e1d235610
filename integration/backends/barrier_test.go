package backends_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// barrierTable is how docs/transactions.md says that the table is made.
func barrierTable(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "transactions.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(text), "```text\ncreate schema")
	table, _, end := strings.Cut(block, "```")
	if !ok || !end {
		t.Fatal("docs/transactions.md does not say how the table is made")
	}
	return regexp.MustCompile("--.*").ReplaceAllString("create schema"+table, "")
}

// engine is a data base that has a barrier table.
type engine struct {
	server, driver, dtm string
	dialect             client.Dialect
	at                  func(*servers.Server) string
	table               *strings.Replacer // of what the page has for a PostgreSQL
	add, sum            string
}

var engines = []engine{
	{server: "postgres", driver: "pgx", dtm: "postgres", dialect: client.PostgreSQL, table: strings.NewReplacer(),
		at: func(s *servers.Server) string {
			at := url.URL{Scheme: "postgres", User: url.UserPassword(s.User, s.Password), Host: s.Addr(), Path: "postgres"}
			return at.String()
		},
		add: "insert into dtm_barrier.account values ($1, $2) on conflict (id) do update set cents = account.cents + excluded.cents",
		sum: "select coalesce(sum(cents), 0) from dtm_barrier.account where id = $1"},
	{server: "mariadb", driver: "mysql", dtm: "mysql", dialect: client.MySQL,
		table: strings.NewReplacer("generated always as identity", "auto_increment", "barrier_id));", "barrier_id)) collate utf8mb4_bin;", "cents bigint)", "cents bigint) collate utf8mb4_bin"),
		at: func(s *servers.Server) string {
			return (&mysql.Config{User: s.User, Passwd: s.Password, Net: "tcp", Addr: s.Addr(), AllowNativePasswords: true, MultiStatements: true}).FormatDSN()
		},
		add: "insert into dtm_barrier.account values (?, ?) on duplicate key update cents = cents + values(cents)",
		sum: "select coalesce(sum(cents), 0) from dtm_barrier.account where id = ?"},
}

// TestSQLBarrier: in a PostgreSQL and a MariaDB the SDK's barrier and that of DTM's client are the same, whichever comes first, and calls at
// the same time have one effect.
func TestSQLBarrier(t *testing.T) {
	t.Parallel()
	for _, e := range engines { // one after the other: DTM's client has one engine at a time
		t.Run(e.server, func(t *testing.T) { sqlBarrier(t, e) })
	}
}

func sqlBarrier(t *testing.T, e engine) {
	db, err := sql.Open(e.driver, e.at(servers.Run(t, e.server)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{barrierTable(t), "create table dtm_barrier.account (id varchar(200) primary key, cents bigint)"} {
		if _, err := db.ExecContext(t.Context(), e.table.Replace(statement)); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	dtmcli.SetCurrentDBType(e.dtm)
	add := func(id string, cents int) func(*sql.Tx) error {
		return func(tx *sql.Tx) error {
			_, err := tx.Exec(e.add, id, cents)
			return err
		}
	}
	// A word is who calls, and for what; each adds one more digit of a number to the account.
	ops := map[string]struct {
		ours, theirs string
		cents        int
	}{"do": {"action", "action", 1}, "undo": {"compensation", "compensate", 10}}
	branch := func(ctx context.Context, gid, word string) error {
		who, what, _ := strings.Cut(word, ":")
		op := ops[what]
		if who == "dtm" {
			b, err := dtmcli.BarrierFrom("saga", gid, "1", op.theirs)
			if err != nil {
				return err
			}
			return b.CallWithDB(db, add(gid, op.cents))
		}
		return client.Branch{GID: gid, Branch: "1", Op: op.ours, Kind: "saga"}.InTx(ctx, db, e.dialect, add(gid, op.cents))
	}
	has := func(gid string) (cents int) {
		t.Helper()
		if err := db.QueryRow(e.sum, gid).Scan(&cents); err != nil {
			t.Fatal(err)
		}
		return cents
	}
	for i, c := range []struct {
		calls string
		cents int
	}{
		{"sdk:do sdk:do sdk:undo sdk:undo", 11},
		{"sdk:do dtm:do dtm:undo sdk:undo", 11},
		{"dtm:do sdk:do sdk:undo dtm:undo", 11},
		{"sdk:undo dtm:do sdk:do", 0},
		{"dtm:undo sdk:do dtm:do sdk:undo", 0},
	} {
		gid := fmt.Sprint("default/shop/", i)
		for _, word := range strings.Fields(c.calls) {
			if err := branch(t.Context(), gid, word); err != nil {
				t.Errorf("%s of %q: %v", word, c.calls, err)
			}
		}
		if got := has(gid); got != c.cents {
			t.Errorf("%q: %d cents, want %d", c.calls, got, c.cents)
		}
	}

	// Ids that differ in case are not the same.
	for _, gid := range []string{"default/shop/order", "default/shop/Order"} {
		for _, word := range []string{"sdk:do", "dtm:do"} {
			if err := branch(t.Context(), gid, word); err != nil {
				t.Errorf("%s of %s: %v", word, gid, err)
			}
		}
	}
	if one, two := has("default/shop/order"), has("default/shop/Order"); one != 1 || two != 1 {
		t.Errorf("two gids that differ in case: %d and %d cents, want 1 and 1", one, two)
	}

	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := branch(t.Context(), "at-once", "sdk:do"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := has("at-once"); got != 1 {
		t.Errorf("eight calls at once: %d cents, want 1", got)
	}

	failed := errors.New("no money")
	b := client.Branch{GID: "fails", Branch: "1", Op: "action", Kind: "saga"}
	err = b.InTx(t.Context(), db, e.dialect, func(tx *sql.Tx) error { return errors.Join(add("fails", 1)(tx), failed) })
	if got := has("fails"); !errors.Is(err, failed) || got != 0 {
		t.Errorf("work that fails: %v, %d cents", err, got)
	}
	if err := b.InTx(t.Context(), db, e.dialect, add("fails", 1)); err != nil || has("fails") != 1 {
		t.Errorf("work that failed is not done again: %v", err)
	}
}
