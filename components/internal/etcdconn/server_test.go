//go:build servers

package etcdconn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var env = components.Env{Logger: slog.New(slog.DiscardHandler)}

func open(t *testing.T, o etcdconn.Options) *etcdconn.Conn {
	t.Helper()
	conn, release, err := etcdconn.Open(t.Context(), env, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return conn
}

func put(key, value string) func(context.Context, *clientv3.Client) error {
	return func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Put(ctx, key, value)
		return err
	}
}

func reason(err error) components.Reason {
	var d *components.Detail
	if !errors.As(err, &d) {
		return ""
	}
	return d.Reason
}

// TestAFrozenMemberIsLeft: what may be done twice is done by another one, what may not says so; neither takes the caller's whole time.
func TestAFrozenMemberIsLeft(t *testing.T) {
	o := etcdtest.Options(t)
	one, two := wiretest.New(t, o.Addresses[0]), wiretest.New(t, o.Addresses[len(o.Addresses)-1])
	o.Addresses, o.Timeout = []string{one.Addr(), two.Addr()}, 20*time.Second
	conn, key := open(t, o), etcdtest.Prefix()
	used := func() *wiretest.Wire { // the one whose loss is noticed
		for _, w := range []*wiretest.Wire{one, two} {
			w.Set(wiretest.Stalled)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			err := conn.Do(ctx, etcdconn.Safe, put(key, "v"))
			cancel()
			if err != nil {
				return w
			}
			w.Set(wiretest.Whole)
		}
		t.Fatal("none of the wires is used")
		return nil
	}()
	for _, twice := range []bool{etcdconn.Once, etcdconn.Safe} {
		began := time.Now()
		err := conn.Do(t.Context(), twice, put(key, "v"))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		if twice && err != nil || !twice && err != nil && reason(err) != backend.ReasonOutcomeUnknown {
			t.Errorf("twice %v: %v", twice, err)
		}
	}
	used.Set(wiretest.Whole)
}

// TestALostAnswerIsNotTakenForNothing: who may not do it twice is told that it may have been done.
func TestALostAnswerIsNotTakenForNothing(t *testing.T) {
	o := etcdtest.Options(t)
	wire := wiretest.New(t, o.Addresses[0])
	o.Addresses = []string{wire.Addr()}
	conn, key := open(t, o), etcdtest.Prefix()
	wire.Set(wiretest.Deaf)
	err := conn.Do(t.Context(), etcdconn.Once, put(key, "v"))
	if reason(err) != backend.ReasonOutcomeUnknown || !strings.Contains(err.Error(), wire.Addr()) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want BACKEND_OUTCOME_UNKNOWN", err)
	}
	o.Timeout = time.Second // which is over before the member is left
	wire.Set(wiretest.Whole)
	quick := open(t, o)
	wire.Set(wiretest.Deaf)
	if err := quick.Do(t.Context(), etcdconn.Safe, put(key, "v")); reason(err) != backend.ReasonUnreachable || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want BACKEND_UNREACHABLE, and nothing of the caller's time", err)
	}
	wire.Set(wiretest.Cut)
	componenttest.Eventually(t, 10*time.Second, func() error {
		if err = conn.Do(t.Context(), etcdconn.Once, put(key, "v")); reason(err) != backend.ReasonUnreachable {
			return fmt.Errorf("%w, want BACKEND_UNREACHABLE", err)
		}
		return nil
	})
	began := time.Now()
	if err := conn.Do(t.Context(), etcdconn.Safe, put(key, "v")); reason(err) != backend.ReasonUnreachable || time.Since(began) > time.Second {
		t.Errorf("while nobody answers: %v after %s", err, time.Since(began))
	}
	wire.Set(wiretest.Whole)
	componenttest.Eventually(t, 10*time.Second, func() error { return conn.Do(t.Context(), etcdconn.Once, put(key, "v")) })
}

func TestWhatIsSaid(t *testing.T) {
	conn, key := open(t, etcdtest.Options(t)), etcdtest.Prefix()
	if err := conn.Do(t.Context(), etcdconn.Once, put(key, strings.Repeat("x", 2<<20))); !errors.Is(err, components.ErrExhausted) {
		t.Errorf("too large: %v", err)
	}
	if err := conn.Do(t.Context(), etcdconn.Once, put(key, strings.Repeat("x", 9<<20))); !errors.Is(err, components.ErrExhausted) {
		t.Errorf("too large to be sent: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := conn.Do(over, etcdconn.Once, put(key, "v")); !errors.Is(err, context.Canceled) || errors.Is(err, components.ErrUnavailable) {
		t.Errorf("a caller that has gone: %v", err)
	}
	o := etcdtest.Options(t)
	o.Addresses = []string{"127.0.0.1:1"}
	began := time.Now()
	_, _, err := etcdconn.Open(t.Context(), env, o)
	if reason(err) != backend.ReasonUnreachable || !strings.Contains(err.Error(), "127.0.0.1:1") || time.Since(began) > 3*time.Second {
		t.Errorf("nobody there: %v, after %s", err, time.Since(began))
	}
}

// TestUsers has an etcd with users for a moment.
func TestUsers(t *testing.T) {
	const secret = "canary-5f2b"
	o := etcdtest.Alone(t)
	client := etcdtest.Client(t, o)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	prefix, ctx := etcdtest.Prefix(), t.Context()
	name := strings.Trim(prefix[5:], "/")
	must(client.RoleAdd(ctx, name))
	must(client.RoleGrantPermission(ctx, name, prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermRead)))
	must(client.UserAdd(ctx, name, secret))
	must(client.UserGrantRole(ctx, name, name))
	must(client.UserAdd(ctx, "root", secret))
	must(client.UserGrantRole(ctx, "root", "root"))
	must(client.AuthEnable(ctx))
	defer func() {
		o.User, o.Password = "root", secret
		_, err := etcdtest.Client(t, o).AuthDisable(context.WithoutCancel(ctx))
		if err == nil {
			_, err = client.UserDelete(context.WithoutCancel(ctx), "root")
		}
		if err != nil {
			t.Error(err)
		}
	}()

	refused := func(what string, err error) {
		t.Helper()
		if reason(err) != backend.ReasonRefused || !strings.Contains(err.Error(), "etcd ") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want BACKEND_REFUSED", what, err)
		}
	}
	conn, release, err := etcdconn.Open(ctx, env, o)
	if err == nil { // nothing was asked for that needs a user
		err = conn.Check(ctx, prefix)
		release()
	}
	refused("no user", err)
	o.User, o.Password = name, "canary-wrong"
	_, _, err = etcdconn.Open(ctx, env, o)
	refused("wrong password", err)

	var log bytes.Buffer
	o.Password = secret
	conn, release, err = etcdconn.Open(ctx, components.Env{Logger: slog.New(slog.NewTextHandler(&log, nil))}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := conn.Check(ctx, prefix); err != nil {
		t.Errorf("what may be read: %v", err)
	}
	refused("what may not be read", conn.Check(ctx, "another"))
	refused("what may not be written", conn.CheckWritable(ctx, prefix))
	if fmt.Sprintf("%v %+v", o, o) != strings.ReplaceAll(fmt.Sprintf("%v %+v", o, o), secret, "") || strings.Contains(log.String(), secret) {
		t.Error("the password can be read")
	}
}

// TestALeaseThatHasEndedIsReplaced, and what hung on it is written anew until that succeeds.
func TestALeaseThatHasEndedIsReplaced(t *testing.T) {
	conn := open(t, etcdtest.Options(t))
	failed := false
	again := make(chan clientv3.LeaseID, 1)
	kept, err := conn.Keep(t.Context(), env.Logger, 2*time.Second, func(_ context.Context, id clientv3.LeaseID) error {
		if !failed {
			failed = true
			return errors.New("the first time it fails")
		}
		again <- id
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	first := kept.ID()
	if err := conn.Revoke(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	kept.Lost()
	select {
	case id := <-again:
		if id == first || id != kept.ID() {
			t.Errorf("lease %d after %d, and it is %d", id, first, kept.ID())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it is not written anew")
	}
	second := kept.ID()
	if err := kept.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got, err := etcdtest.Client(t, etcdtest.Options(t)).TimeToLive(t.Context(), second); err != nil || got.TTL != -1 {
		t.Errorf("what is closed has %d s left, %v", got.TTL, err)
	}
}

func TestTLS(t *testing.T) {
	o := etcdtest.Options(t)
	addr, ca := wiretest.Secure(t, o.Addresses[0])
	_, another := wiretest.Secure(t, o.Addresses[0])
	o.Addresses, o.TLS = []string{addr}, backend.TLS{Enabled: true, CA: ca}
	if err := open(t, o).Check(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	for name, wrong := range map[string]backend.TLS{"another CA": {Enabled: true, CA: another}, "another CA, for a user": {Enabled: true, CA: another}, "no TLS": {}} {
		if o.User, o.Password, o.TLS = "", "", wrong; strings.HasSuffix(name, "for a user") {
			o.User, o.Password = "somebody", "canary-31f0"
		}
		began := time.Now()
		_, _, err := etcdconn.Open(t.Context(), env, o)
		if reason(err) != backend.ReasonUnreachable || !strings.Contains(err.Error(), addr) || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v, after %s", name, err, time.Since(began))
		}
		if wrong.Enabled && !strings.Contains(err.Error(), "x509") {
			t.Errorf("%s: %v does not say why", name, err)
		}
	}
}
