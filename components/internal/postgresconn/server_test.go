//go:build servers

package postgresconn_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a schema of the test's own.
func server(t testing.TB) postgresconn.Options {
	t.Helper()
	o := postgresconn.Defaults()
	o.Addresses, o.User, o.Password = []string{os.Getenv("OUTRIGGER_POSTGRES")}, os.Getenv("OUTRIGGER_POSTGRES_USER"), components.Secret(os.Getenv("OUTRIGGER_POSTGRES_PASSWORD"))
	if o.Addresses[0] == "" {
		t.Fatal("OUTRIGGER_POSTGRES is not set: go run ./integration/servers/cmd postgres -- go test -tags servers ...")
	}
	o.Schema = "t_" + componenttest.Caller().App
	return o
}

func env() components.Env {
	return components.Env{Logger: slog.New(slog.DiscardHandler), Shared: components.NewShared()}
}

func open(t testing.TB, o postgresconn.Options) *postgresconn.Client {
	t.Helper()
	c, release, err := postgresconn.Open(t.Context(), env(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return c
}

// ask answers the one number that a statement does.
func ask(ctx context.Context, c *postgresconn.Client, sql string, args ...any) (n int64, err error) {
	err = c.Do(ctx, postgresconn.Statement{SQL: sql, Args: args, Row: postgresconn.Scan(&n)})
	return n, err
}

func must(t testing.TB, c *postgresconn.Client, sql string) int64 {
	t.Helper()
	n, err := ask(t.Context(), c, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func reason(err error) components.Reason {
	var d *components.Detail
	if errors.As(err, &d) {
		return d.Reason
	}
	return ""
}

const canary = "canary-4711-secret"

func TestWhoIsRefusedIsToldWhyAndNoSecret(t *testing.T) {
	for name, c := range map[string]struct {
		change func(o *postgresconn.Options)
		want   string
		reason components.Reason
	}{
		"a wrong password": {func(o *postgresconn.Options) { o.Password = canary }, "password authentication failed", backend.ReasonRefused},
		"no rights": {func(o *postgresconn.Options) {
			o.User, o.Password = os.Getenv("OUTRIGGER_POSTGRES_LIMITED_USER"), components.Secret(os.Getenv("OUTRIGGER_POSTGRES_LIMITED_PASSWORD"))
		}, "permission denied", backend.ReasonRefused},
		"no such database":  {func(o *postgresconn.Options) { o.Database = "none" }, `"none" does not exist`, backend.ReasonRefused},
		"another authority": {func(o *postgresconn.Options) { o.TLS = backend.TLS{Enabled: true} }, "certificate", backend.ReasonUnreachable},
		"another name": {func(o *postgresconn.Options) {
			o.TLS = backend.TLS{Enabled: true, CA: os.Getenv("OUTRIGGER_POSTGRES_CA"), ServerName: "elsewhere"}
		}, "elsewhere", backend.ReasonUnreachable},
		"nobody there": {func(o *postgresconn.Options) { o.Addresses = []string{"127.0.0.1:1"} }, "connection refused", backend.ReasonUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			o := server(t)
			c.change(&o)
			began := time.Now()
			_, _, err := postgresconn.Open(t.Context(), env(), o)
			if err == nil {
				t.Fatal("it was opened")
			}
			if passed := time.Since(began); passed > 5*time.Second {
				t.Errorf("it took %v", passed)
			}
			if !errors.Is(err, components.ErrUnavailable) || reason(err) != c.reason || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), o.Addresses[0]) {
				t.Errorf("%v, reason %q", err, reason(err))
			}
			for _, secret := range []string{canary, o.Password.Reveal()} {
				if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, secret) {
					t.Error("the password is in the error")
				}
			}
		})
	}
}

func TestTLSIsVerified(t *testing.T) {
	o := server(t)
	o.TLS = backend.TLS{Enabled: true, CA: os.Getenv("OUTRIGGER_POSTGRES_CA")}
	c := open(t, o)
	if n := must(t, c, "select count(*) from pg_stat_ssl where pid = pg_backend_pid() and ssl"); n != 1 {
		t.Error("the connection is not encrypted")
	}
}

func TestServersThatMayLoseAreRefused(t *testing.T) {
	o := server(t)
	c := open(t, o)
	role := o.Schema
	for _, sql := range []string{
		fmt.Sprintf("create role %s login superuser password '%s'", role, canary),
		fmt.Sprintf("alter role %s set synchronous_commit = off", role),
	} {
		if err := c.Do(t.Context(), postgresconn.Statement{SQL: sql}); err != nil {
			t.Fatal(err)
		}
	}
	o.User, o.Password = role, canary
	_, _, err := postgresconn.Open(t.Context(), env(), o)
	if err == nil || !strings.Contains(err.Error(), "synchronous_commit = off") || !strings.Contains(err.Error(), "allow_loss") || strings.Contains(err.Error(), canary) {
		t.Errorf("%v", err)
	}
	o.AllowLoss = true
	open(t, o)
}

func TestSchemas(t *testing.T) {
	o := server(t)
	part := func(steps ...string) postgresconn.Part { return postgresconn.Part{Name: "test", Steps: steps} }
	first, second := "create table things (n bigint)", "insert into things values (1)"
	var all sync.WaitGroup
	for range 6 { // each a sidecar of its own, at once
		all.Go(func() {
			c, release, err := postgresconn.Open(t.Context(), env(), o)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if err := c.Install(t.Context(), part(first, second)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	c := open(t, o)
	if n := must(t, c, "select count(*) from things"); n != 1 {
		t.Errorf("the second step was taken %d times", n)
	}
	if err := c.Install(t.Context(), part(first, second, second)); err != nil {
		t.Error(err)
	}
	if n := must(t, c, "select count(*) from things"); n != 2 {
		t.Errorf("%d rows after the third step", n)
	}
	if err := c.Install(t.Context(), part(first, second)); !errors.Is(err, components.ErrPrecondition) || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("a newer version: %v", err)
	}
	if err := c.Install(t.Context(), part(first, second, second, second, "no statement")); err == nil {
		t.Error("a step that fails succeeded")
	}
	if n := must(t, c, "select count(*) from things"); n != 2 {
		t.Errorf("%d rows after a step that failed: what came before it was not taken back", n)
	}
}

// TestManyShareAFew: 64 callers, whose statements are answered though the connections are few, and each with its own answer.
func TestManyShareAFew(t *testing.T) {
	o := server(t)
	o.Connections = 2
	c := open(t, o)
	var wrong atomic.Int64
	componenttest.Together(64, func(i int) {
		for n := range 50 {
			want := int64(i*1000 + n)
			sql := "select $1::bigint"
			if n%2 == 0 {
				sql = "select 'x'::text, $1::bigint" // the first column has another format
			}
			var got int64
			var x string
			row := postgresconn.Scan(&got)
			if n%2 == 0 {
				row = postgresconn.Scan(&x, &got)
			}
			if err := c.Do(t.Context(), postgresconn.Statement{SQL: sql, Args: []any{want}, Row: row}); err != nil || got != want {
				wrong.Add(1)
			}
		}
	})
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d answers were wrong", n)
	}
	if n := must(t, c, "select count(*) from pg_stat_activity where application_name = 'outrigger "+o.Schema+"'"); n > 2 {
		t.Errorf("%d connections", n)
	}
}

// TestFaultsAreOnesOwn: among those that share a pipeline, one whose statement fails is told so, and the others have theirs done.
func TestFaultsAreOnesOwn(t *testing.T) {
	o := server(t)
	o.Connections = 1
	c := open(t, o)
	if err := c.Install(t.Context(), postgresconn.Part{Name: "test", Steps: []string{"create table things (n bigint primary key)"}}); err != nil {
		t.Fatal(err)
	}
	componenttest.Together(40, func(i int) {
		n, err := ask(t.Context(), c, "insert into things values ($1) returning 100 / (n % 2)", int64(i))
		switch {
		case i%2 == 0 && postgresconn.Code(err) != "22012":
			t.Errorf("%d: %v", i, err)
		case i%2 == 1 && (err != nil || n != 100):
			t.Errorf("%d: %d, %v", i, n, err)
		}
	})
	if n := must(t, c, "select count(*) from things"); n != 20 {
		t.Errorf("%d rows", n)
	}
}

func TestConnectionsThatTheServerEndedAreReplaced(t *testing.T) {
	o := server(t)
	c, killer := open(t, o), open(t, server(t))
	end := func(most int) {
		t.Helper()
		must(t, killer, fmt.Sprintf("select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity where application_name = 'outrigger %s' limit %d) chosen", o.Schema, most))
	}
	for range 5 {
		end(o.Connections)
		componenttest.Eventually(t, 5*time.Second, func() error {
			_, err := ask(t.Context(), c, "select 1")
			return err
		})
	}
}

// TestIdleConnectionsAreLookedAt: those that were cut while they were idle are found out before a write is sent on one, which nobody would
// know the outcome of, and are replaced without its noticing.
func TestIdleConnectionsAreLookedAt(t *testing.T) {
	for _, connections := range []int{1, 4} {
		o := server(t)
		w := wiretest.New(t, o.Addresses[0])
		o.Addresses, o.Connections = []string{w.Addr()}, connections
		c := open(t, o)
		for i := range 5 {
			time.Sleep(150 * time.Millisecond)
			w.Set(wiretest.Cut)
			w.Set(wiretest.Whole)
			time.Sleep(20 * time.Millisecond)
			if err := c.Do(t.Context(), postgresconn.Statement{SQL: "select 1", Write: true}); err != nil {
				t.Errorf("%d connections, round %d: %v", connections, i, err)
			}
		}
	}
}

// TestAnswersThatAreLost: of a write whose answer does not come it is said that nobody knows; a read is repeated.
func TestAnswersThatAreLost(t *testing.T) {
	o := server(t)
	w := wiretest.New(t, o.Addresses[0])
	o.Addresses, o.Timeout, o.Connections = []string{w.Addr()}, 500*time.Millisecond, 1
	c := open(t, o)
	for mode, name := range map[wiretest.Mode]string{wiretest.Deaf: "lost answers", wiretest.Stalled: "a stalled wire"} {
		must(t, c, "select 1") // it is known to the server from now on
		w.Set(mode)
		began := time.Now()
		err := c.Do(t.Context(), postgresconn.Statement{SQL: "select 1", Write: true})
		if reason(err) != backend.ReasonOutcomeUnknown {
			t.Errorf("%s: a write: %v", name, err)
		}
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := ask(short, c, "select 1"); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("%s: a read with little time: %v", name, err)
		}
		cancel()
		w.Set(wiretest.Whole)
		componenttest.Eventually(t, 10*time.Second, func() error {
			_, err := ask(t.Context(), c, "select 1")
			return err
		})
		t.Logf("%s: served again after %v", name, time.Since(began))
	}
}

// TestAServerThatDoesNotAnswer: that its time is over is said to nobody as if it were the caller's.
func TestAServerThatDoesNotAnswer(t *testing.T) {
	o := server(t)
	w := wiretest.New(t, o.Addresses[0])
	o.Addresses, o.ConnectTimeout, o.Timeout = []string{w.Addr()}, 100*time.Millisecond, 100*time.Millisecond
	w.Set(wiretest.Stalled)
	_, _, err := postgresconn.Open(t.Context(), env(), o)
	if !errors.Is(err, components.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestThePrimaryIsLookedFor: a server that cannot be written to is left for one that can, at once or when it turns out.
func TestThePrimaryIsLookedFor(t *testing.T) {
	o := server(t)
	dead := wiretest.New(t, o.Addresses[0])
	dead.Set(wiretest.Cut)
	o.Addresses, o.Connections = []string{dead.Addr(), o.Addresses[0]}, 1
	c := open(t, o)
	if err := c.Install(t.Context(), postgresconn.Part{Name: "test", Steps: []string{"create table things (n bigint)"}}); err != nil {
		t.Fatal(err)
	}
	// As of a primary that has become a replica: a session of it.
	if err := c.Do(t.Context(), postgresconn.Statement{SQL: "set default_transaction_read_only = on"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), postgresconn.Statement{SQL: "insert into things values (1)", Write: true}); err != nil {
		t.Errorf("a write where the server is no primary any more: %v", err)
	}
	for _, sql := range []string{
		fmt.Sprintf("create role %s login superuser password '%s'", o.Schema, canary),
		fmt.Sprintf("alter role %s set default_transaction_read_only = on", o.Schema),
	} {
		if err := c.Do(t.Context(), postgresconn.Statement{SQL: sql}); err != nil {
			t.Fatal(err)
		}
	}
	o.User, o.Password = o.Schema, canary
	if _, _, err := postgresconn.Open(t.Context(), env(), o); reason(err) != backend.ReasonUnreachable || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("where none can be written to: %v", err)
	}
}

func TestWhatIsInAnothersWayIsRepeated(t *testing.T) {
	o := server(t)
	c := open(t, o)
	steps := []string{`create sequence tries; create function clash(code text, times bigint) returns bigint language plpgsql as $$
		declare n bigint := nextval('tries');
		begin if n <= times then raise exception using errcode = code; end if; return n; end $$`}
	if err := c.Install(t.Context(), postgresconn.Part{Name: "test", Steps: steps}); err != nil {
		t.Fatal(err)
	}
	var n int64
	err := c.Do(t.Context(), postgresconn.Statement{SQL: "select clash('40001', 5)", Write: true, Row: postgresconn.Scan(&n)})
	if err != nil || n != 6 {
		t.Errorf("%d tries, %v", n, err)
	}
	bounded, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := ask(bounded, c, "select clash('40P01', 1000000)"); err == nil || time.Until(func() time.Time { d, _ := bounded.Deadline(); return d }()) < -time.Second {
		t.Errorf("for ever in another's way: %v", err)
	}
	for code, want := range map[string]error{"53100": components.ErrExhausted, "53200": components.ErrExhausted, "53300": components.ErrExhausted, "42501": components.ErrUnavailable, "XX001": components.ErrDamaged} {
		if _, err := ask(t.Context(), c, "select clash($1, 1000000)", code); !errors.Is(err, want) {
			t.Errorf("%s: %v", code, err)
		}
	}
	if _, err := ask(t.Context(), c, "select clash('42501', 1000000)"); reason(err) != backend.ReasonRefused {
		t.Errorf("no rights: %v", err)
	}
}

// TestWhoLeavesHoldsUpNobody: a caller whose time is over is told so while the server still works, and what is late is told.
func TestWhoLeavesHoldsUpNobody(t *testing.T) {
	o := server(t)
	o.Connections = 1
	c := open(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	late := make(chan struct{})
	began := time.Now()
	err := c.Do(ctx, postgresconn.Statement{SQL: "select 1 from pg_sleep(0.5)", Late: func() { close(late) }})
	if passed := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || passed > 400*time.Millisecond {
		t.Errorf("after %v: %v", passed, err)
	}
	select {
	case <-late:
	case <-time.After(5 * time.Second):
		t.Error("what came late is told to nobody")
	}
	must(t, c, "select 1")
}

func TestWhatTakesTooLongIsEnded(t *testing.T) {
	o := server(t)
	watch := open(t, o)
	o.Timeout = 300 * time.Millisecond
	c := open(t, o)
	if _, err := ask(t.Context(), c, "select 1 from pg_sleep(20)"); reason(err) != backend.ReasonUnreachable {
		t.Errorf("%v", err)
	}
	if n := must(t, watch, "select count(*) from pg_stat_activity where query like '%pg_sleep(20)%' and state = 'active' and pid <> pg_backend_pid()"); n != 0 {
		t.Error("the server goes on")
	}
}

func TestInstancesWithEqualOptionsShare(t *testing.T) {
	o, e := server(t), env()
	a, release, err := postgresconn.Open(t.Context(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	b, again, err := postgresconn.Open(t.Context(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	defer again()
	if a != b {
		t.Error("equal options have two clients")
	}
	o.Password = canary
	if _, _, err := postgresconn.Open(t.Context(), e, o); err == nil {
		t.Error("another password came to the same client")
	}
}

// TestNumbersAreRaisedByAnotherServer: what stands in the table is that of another server, as after a fail-over.
func TestNumbersAreRaisedByAnotherServer(t *testing.T) {
	c := open(t, server(t))
	if n := must(t, c, "select raised()"); n != 0 {
		t.Errorf("raised by %d at the beginning", n)
	}
	if err := c.Do(t.Context(), postgresconn.Statement{SQL: "update servers set server = 'another', created = created - interval '1 min'"}); err != nil {
		t.Fatal(err)
	}
	first := must(t, c, "select raised()")
	if first < int64(time.Minute) || must(t, c, "select raised()") != first {
		t.Errorf("raised by %d", first)
	}
}
