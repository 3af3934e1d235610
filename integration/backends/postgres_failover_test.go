package backends_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// postgresPair is a primary and its replica.
func postgresPair(t *testing.T) (s *servers.Server, replica *servers.Node) {
	t.Helper()
	s = servers.RunHere(t, "postgres")
	replica, err := s.Replica(t.Context())
	check(t, err)
	following(t, s)
	return s, replica
}

// following waits until the replica has all that the primary has.
func following(t *testing.T, s *servers.Server) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		n, err := s.Psql(t.Context(), "select count(*) from pg_stat_replication where replay_lsn >= pg_current_wal_lsn()")
		if err == nil && n != "1" {
			err = fmt.Errorf("%s follow", n)
		}
		return err
	})
}

// served waits until the components of a sidecar have their server.
func served(t *testing.T, c *client.Client) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		if _, err := c.State("").Set(t.Context(), "other", client.Item{}); err != nil {
			return err
		}
		if _, err := c.Sequence("").Next(t.Context(), "other", 1); err != nil {
			return err
		}
		_, err := c.Lock("").Lock(t.Context(), client.LockRequest{Name: "other", Owner: "test"})
		return err
	})
}

func promote(t *testing.T, s *servers.Server, replica *servers.Node) {
	t.Helper()
	_, err := s.PsqlAt(t.Context(), replica, "select pg_promote()")
	check(t, err)
}

// TestPostgresFailOver: where the primary waits for its replica, nothing that was acknowledged is lost when it is killed under load and the
// replica takes its place.
func TestPostgresFailOver(t *testing.T) {
	t.Parallel()
	s, replica := postgresPair(t)
	_, err := s.Psql(t.Context(), "alter system set synchronous_standby_names = '*'")
	check(t, err)
	_, err = s.Psql(t.Context(), "select pg_reload_conf()")
	check(t, err)
	sidecar := harness.Start(t, harness.Options{App: "app", Config: postgresConfig(postgresOptions(s, s.User, s.Password))})
	c := sidecar.Client()
	served(t, c)
	l := newLoad(t)
	numbers, writes, versions := numbers{given: map[int64]bool{}}, writes{acked: map[string]int{}}, serials{last: map[string]int64{}}
	for w := range 4 {
		l.worker(func(ctx context.Context) error {
			return numbers.draw(t, func() (int64, error) {
				row, err := c.Sequence("").Next(ctx, "k", 1)
				return row.First, err
			})
		})
		key, n := fmt.Sprintf("key%d", w), 0
		l.worker(func(ctx context.Context) error {
			n++
			version, err := c.State("").Set(ctx, key, client.Item{Value: []byte(strconv.Itoa(n))})
			if err == nil {
				writes.set(key, n)
				versions.grows(t, key, version)
			}
			return err
		})
	}
	l.answered(200)
	before := running(t, sidecar)
	said := l.during(func() {
		check(t, s.Nodes[0].Kill())
		promote(t, s, replica)
	})
	lost := writes.lost(t, func(key string) (string, error) {
		item, err := c.State("").Get(t.Context(), key)
		return string(item.Value), err
	})
	l.came("postgres fail-over, synchronous", said, lost, before, sidecar)
}

// TestPostgresFailOverThatLoses: where the primary does not wait, what the replica has not heard of is lost, as the drivers' pages say; and
// as they say, no token of a lock, no number and no version comes again.
func TestPostgresFailOverThatLoses(t *testing.T) {
	t.Parallel()
	s, replica := postgresPair(t)
	sidecar := harness.Start(t, harness.Options{App: "app", Config: postgresConfig(postgresOptions(s, s.User, s.Password))})
	c := sidecar.Client()
	served(t, c)
	ctx := t.Context()
	var token uint64
	var number int64
	versions := map[string]bool{}
	work := func(text string) {
		t.Helper()
		for range 50 {
			lease, err := c.Lock("").TryLock(ctx, client.LockRequest{Name: "l", Lease: time.Minute})
			check(t, err)
			if lease.Token <= token {
				t.Errorf("token %d after %d", lease.Token, token)
			}
			token = lease.Token
			check(t, c.Lock("").Unlock(ctx, "l", token))
			row, err := c.Sequence("").Next(ctx, "k", 1000)
			check(t, err)
			if row.First <= number {
				t.Errorf("number %d after %d", row.First, number)
			}
			number = row.Last
			version, err := c.State("").Set(ctx, "k", client.Item{Value: []byte(text)})
			check(t, err)
			if versions[version] {
				t.Errorf("version %s comes again", version)
			}
			versions[version] = true
		}
	}
	work("before")
	following(t, s)
	check(t, replica.Stop())
	work("unheard")
	stale, err := c.State("").Get(ctx, "k")
	check(t, err)
	check(t, s.Nodes[0].Kill())
	check(t, replica.Start(ctx))
	promote(t, s, replica)
	began := time.Now()
	harness.Eventually(t, patience, func() error {
		_, err := c.State("").Get(ctx, "k")
		return err
	})
	took := time.Since(began)
	item, err := c.State("").Get(ctx, "k")
	check(t, err)
	if string(item.Value) != "before" {
		t.Errorf("%q is there, which the replica cannot have", item.Value)
	}
	if _, err := c.State("").Set(ctx, "k", client.Item{}, client.IfVersion(stale.Version)); err == nil {
		t.Error("the version of what is lost is taken for that of what is there")
	}
	work("after")
	fmt.Printf("postgres fail-over, asynchronous: what the replica had not heard of is lost, no token, number or version comes again | recovered %.1f s after it was promoted\n", took.Seconds())
}
