//go:build servers

package postgresconn_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
)

// logged is a client that has a part of the test's own, and what it logs.
func logged(t *testing.T, o postgresconn.Options) (*postgresconn.Client, *postgrestest.Log) {
	t.Helper()
	log := &postgrestest.Log{}
	c, release, err := postgresconn.Open(t.Context(), components.Env{Logger: slog.New(slog.NewTextHandler(log, nil))}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	step := `create table if not exists things (n bigint);
		create or replace function many() returns bigint language plpgsql as $$ declare one things; begin insert into things values (1); return (select count(*) from things); end $$`
	if err := c.Install(t.Context(), postgresconn.Part{Name: "test", Steps: []string{step}}); err != nil {
		t.Fatal(err)
	}
	return c, log
}

func do(t *testing.T, c *postgresconn.Client, sql ...string) {
	t.Helper()
	for _, one := range sql {
		if err := c.Do(t.Context(), postgresconn.Statement{SQL: one}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWhatIsDroppedIsMadeAnew by the calls that miss it, of which none fails, whichever sidecar is first, and once.
func TestWhatIsDroppedIsMadeAnew(t *testing.T) {
	o := server(t)
	one, first := logged(t, o)
	two, second := logged(t, o)
	admin := open(t, server(t))
	for i, drop := range []string{"drop schema %s cascade", "drop schema %s cascade", "drop table %s.things", "drop function %s.many"} {
		must(t, one, "select many()") // all connections know of it
		do(t, admin, fmt.Sprintf(drop, o.Schema))
		componenttest.Together(32, func(i int) {
			c := one
			if i%2 == 0 {
				c = two
			}
			for range 4 {
				if _, err := ask(t.Context(), c, "select many()"); err != nil {
					t.Errorf("%s: %v", drop, err)
				}
			}
		})
		if n := must(t, one, "select many()"); i < 3 && n != 32*4+1 {
			t.Errorf("%s: %d rows", drop, n)
		}
		if n := first.Made() + second.Made(); n != i+1 {
			t.Errorf("%s: it is said %d times by now", drop, n)
		}
	}
}

// TestWhoMayNotMakeItIsToldSo, is not busy with it, and goes on when another has made it.
func TestWhoMayNotMakeItIsToldSo(t *testing.T) {
	o := server(t)
	admin := open(t, server(t))
	logged(t, o)
	limited := o
	limited.User, limited.Password = os.Getenv("OUTRIGGER_POSTGRES_LIMITED_USER"), components.Secret(os.Getenv("OUTRIGGER_POSTGRES_LIMITED_PASSWORD"))
	grant := func() {
		t.Helper()
		for _, what := range []string{"usage on schema %s", "all on all tables in schema %s", "all on all functions in schema %s"} {
			do(t, admin, "grant "+fmt.Sprintf(what, o.Schema)+" to "+limited.User)
		}
	}
	grant()
	c, log := logged(t, limited)
	must(t, c, "select many()")
	for name, spoil := range map[string]string{"dropped": "drop schema %s cascade", "no rights": "revoke usage on schema %s from " + limited.User} {
		do(t, admin, fmt.Sprintf(spoil, o.Schema))
		refused := func() {
			t.Helper()
			if _, err := ask(t.Context(), c, "select many()"); !errors.Is(err, components.ErrUnavailable) || reason(err) != backend.ReasonRefused || postgresconn.Code(err) != "42501" {
				t.Fatalf("%s: %v", name, err)
			}
		}
		began := time.Now()
		refused()
		before := c.Mending()
		for range 50 {
			refused()
		}
		if passed := time.Since(began); c.Mending() != before && passed < time.Second {
			t.Errorf("%s: it is tried again within %v", name, passed)
		}
		logged(t, o)
		grant()
		must(t, c, "select many()")
	}
	if n := log.Made(); n != 0 {
		t.Errorf("it is said %d times", n)
	}
}

// TestWhatIsNotOursIsNotMade: nothing is missing, and the server's word is passed on.
func TestWhatIsNotOursIsNotMade(t *testing.T) {
	c, log := logged(t, server(t))
	began := time.Now()
	for range 3 {
		if _, err := ask(t.Context(), c, "select count(*) from elsewhere"); postgresconn.Code(err) != "42P01" {
			t.Errorf("%v", err)
		}
	}
	if passed := time.Since(began); passed < time.Second {
		t.Errorf("what is missing was looked for three times in %v", passed)
	}
	if n := log.Made(); n != 0 {
		t.Errorf("it is said %d times", n)
	}
}
