package backends_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dtm-labs/client/dtmcli"
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
	return "create schema" + table
}

// TestSQLBarrier: in a PostgreSQL the SDK's barrier and that of DTM's client are the same, whichever comes first, and calls at the same
// time have one effect.
func TestSQLBarrier(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "postgres")
	at := url.URL{Scheme: "postgres", User: url.UserPassword(s.User, s.Password), Host: s.Addr(), Path: "postgres"}
	db, err := sql.Open("pgx", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{barrierTable(t), "create table account (id text primary key, cents bigint)"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	dtmcli.SetCurrentDBType("postgres")
	add := func(id string, cents int) func(*sql.Tx) error {
		return func(tx *sql.Tx) error {
			_, err := tx.Exec("insert into account values ($1, $2) on conflict (id) do update set cents = account.cents + $2", id, cents)
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
		return client.Branch{GID: gid, Branch: "1", Op: op.ours, Kind: "saga"}.InTx(ctx, db, client.PostgreSQL, add(gid, op.cents))
	}
	has := func(gid string) (cents int) {
		t.Helper()
		if err := db.QueryRow("select coalesce(sum(cents), 0) from account where id = $1", gid).Scan(&cents); err != nil {
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
	err = b.InTx(t.Context(), db, client.PostgreSQL, func(tx *sql.Tx) error { return errors.Join(add("fails", 1)(tx), failed) })
	if got := has("fails"); !errors.Is(err, failed) || got != 0 {
		t.Errorf("work that fails: %v, %d cents", err, got)
	}
	if err := b.InTx(t.Context(), db, client.PostgreSQL, add("fails", 1)); err != nil || has("fails") != 1 {
		t.Errorf("work that failed is not done again: %v", err)
	}
}
