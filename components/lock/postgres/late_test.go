//go:build servers

package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
)

// TestALateAnswerSaysWhatIsLeft of the lease, which has begun at the server.
func TestALateAnswerSaysWhatIsLeft(t *testing.T) {
	o := options(t)
	c := postgrestest.Open(t, o.Postgres)
	w := wiretest.New(t, o.Postgres.Addresses[0])
	o.Postgres.Addresses, o.Postgres.Connections = []string{w.Addr()}, 1
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	known, err := d.TryLock(t.Context(), "n/a/known", "me", time.Minute) // so that the connection knows the statements
	if err == nil {
		_, err = d.Renew(t.Context(), "n/a/known", known.Token, time.Minute)
	}
	if err != nil {
		t.Fatal(err)
	}
	during := func(call func() (time.Duration, error)) {
		t.Helper()
		ends := func() int64 {
			return postgrestest.Number(t, c, "select coalesce(max(extract(epoch from expires) * 1e6)::bigint, 0) from lock_holders where key like '%/l'")
		}
		before := ends()
		left, late, err := wiretest.Held(w, func() {
			componenttest.Eventually(t, 10*time.Second, func() error {
				if ends() == before {
					return errors.New("the lease has not begun")
				}
				return nil
			})
		}, call)
		if err != nil || left > time.Minute-late {
			t.Errorf("%v after it has begun, a lease of a minute has %v left, %v", late, left, err)
		}
	}
	var token uint64
	during(func() (time.Duration, error) {
		got, err := d.TryLock(t.Context(), "n/a/l", "me", time.Minute)
		token = got.Token
		return got.Lease, err
	})
	during(func() (time.Duration, error) { return d.Renew(t.Context(), "n/a/l", token, time.Minute) })
}
