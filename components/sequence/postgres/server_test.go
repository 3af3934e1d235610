//go:build servers

package postgres_test

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/sequence/postgres"
	"github.com/outrigger-mesh/outrigger/components/sequence/sequencetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opener makes drivers of one sidecar.
func opener(o postgres.Options) func(t *testing.T) sequence.Driver {
	return componenttest.Opener("sequence", "postgres", postgres.Open, o)
}

func options(t testing.TB) postgres.Options {
	t.Helper()
	o := componenttest.Defaults[postgres.Options](t, sequence.Drivers, "postgres")
	o.Postgres = postgrestest.Options(t)
	return o
}

func TestConformance(t *testing.T) { sequencetest.Run(t, opener(options(t))) }

func TestNumbersGrowOverAFailOver(t *testing.T) {
	o := options(t)
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	last := map[string]int64{}
	for round := range 3 {
		for _, key := range []string{"old", fmt.Sprint("new ", round)} {
			for range 20 {
				first, err := d.Next(t.Context(), "n/a/"+key, 100)
				if err != nil || first <= last[key] {
					t.Fatalf("round %d: %d after %d, %v", round, first, last[key], err)
				}
				if last[key] == 0 && round == 0 && first != 1 {
					t.Errorf("the first number is %d", first)
				}
				last[key] = first + 99
			}
		}
		// As on a replica that has not heard of the last ones, and is the primary now.
		postgrestest.Number(t, c, "with gone as (delete from sequence_numbers where key like '%new%' returning 1) select count(*) from gone")
		postgrestest.Number(t, c, "with less as (update sequence_numbers set last = 5 returning 1) select count(*) from less")
		postgrestest.Number(t, c, "with new as (update servers set server = 'another' returning 1) select count(*) from new")
	}
}

func TestTheEndOfTheNumbers(t *testing.T) {
	o := options(t)
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	postgrestest.Number(t, c, "with put as (insert into sequence_numbers values ('default/n/a/k', $1) returning 1) select count(*) from put", int64(math.MaxInt64-25))
	var given, refused atomic.Int64
	componenttest.Together(16, func(int) { // put together they are too many
		first, err := d.Next(t.Context(), "n/a/k", 5)
		var detail *components.Detail
		switch {
		case err == nil && first > math.MaxInt64-25 && first <= math.MaxInt64-4:
			given.Add(1)
		case errors.As(err, &detail) && detail.Reason == sequence.ReasonExhausted:
			refused.Add(1)
		default:
			t.Errorf("%d, %v", first, err)
		}
	})
	if given.Load() != 5 || refused.Load() != 11 {
		t.Errorf("%d were given numbers, %d refused", given.Load(), refused.Load())
	}
}

func TestCallsAreDrawnTogether(t *testing.T) {
	o := options(t)
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	part := postgresconn.Part{Name: "test", Steps: []string{`create sequence draws;
		create function count_draw() returns trigger language plpgsql as $$ begin perform nextval('draws'); return new; end $$;
		create trigger counts before update on sequence_numbers for each row execute function count_draw()`}}
	if err := c.Install(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	const callers, each = 64, 20
	componenttest.Together(callers, func(int) {
		for range each {
			if _, err := d.Next(t.Context(), "n/a/k", 1); err != nil {
				t.Error(err)
			}
		}
	})
	if first, err := d.Next(t.Context(), "n/a/k", 1); err != nil || first != callers*each+1 {
		t.Errorf("%d, %v", first, err)
	}
	if n := postgrestest.Number(t, c, "select nextval('draws')"); n > callers*each/4 {
		t.Errorf("%d calls were %d statements", callers*each, n)
	}
}
