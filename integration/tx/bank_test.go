// Package tx_test holds transactions to what docs/transactions.md says, over public protocols alone.
package tx_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// patience is how long a test waits for what must happen, on a machine that is busy.
const patience = time.Minute

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// txConfig is that of coordinators whose leases are short.
const txConfig = "state: {default: {driver: local}}\nregistry: {default: {driver: file}}\nmesh: {registry: default}\n" +
	"transaction: {default: {driver: local, options: {lease: 500ms, call_timeout: 60s, timeout: 10m}}}\n"

// startBank starts a sidecar of the application that begins transactions, and waits until it can.
func startBank(t *testing.T, dir, more string) (*harness.Sidecar, *client.Transactions) {
	t.Helper()
	return startBankOf(t, harness.Options{DataDir: dir, Config: txConfig + more})
}

func startBankOf(t *testing.T, o harness.Options) (*harness.Sidecar, *client.Transactions) {
	t.Helper()
	o.App = "bank"
	s := harness.Start(t, o)
	c, err := client.Dial(within(t, patience), client.WithAddress(s.GRPC), client.WithWait())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	tx := c.Transactions("")
	harness.Eventually(t, patience, func() error {
		if _, err := tx.Get(within(t, patience), "none"); !errors.Is(err, client.ErrNotFound) {
			return fmt.Errorf("it is not ready: %w", err)
		}
		return nil
	})
	return s, tx
}

// branchApp is an application that notes which branches it is called for, and answers as it is told.
type branchApp struct {
	t       *testing.T
	port    int
	sidecar *harness.Sidecar
	client  *client.Client

	mu     sync.Mutex
	calls  []branchCall
	answer func(c branchCall, before int) error // before counts the same calls that there were; nil: OK
}

type branchCall struct {
	name string // GID BRANCH OP
	at   time.Time
	client.Branch
}

var errAway = errors.New("it is away")

// startBranchApp starts one with its sidecar, which owns the store if it is the first.
func startBranchApp(t *testing.T, dir string) *branchApp {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &branchApp{t: t, port: ln.Addr().(*net.TCPAddr).Port}
	server := &http.Server{Handler: a}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() { server.Close(); <-done })
	a.sidecar = harness.Start(t, harness.Options{App: "stock", AppPort: a.port, Protocol: "http", DataDir: dir, Config: txConfig})
	a.client = a.sidecar.Client()
	harness.Eventually(t, patience, func() error { // until it has the store
		_, err := a.client.State("").Get(within(t, patience), "none")
		if errors.Is(err, client.ErrNotFound) {
			return nil
		}
		return err
	})
	return a
}

func (a *branchApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := client.BranchOf(r)
	c := branchCall{fmt.Sprint(b.GID, " ", b.Branch, " ", b.Op), time.Now(), b}
	var err error
	a.mu.Lock()
	before := len(a.timesLocked(c.name))
	a.calls = append(a.calls, c)
	answer := a.answer
	a.mu.Unlock()
	if answer != nil {
		err = answer(c, before)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (a *branchApp) answers(answer func(c branchCall, before int) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

func (a *branchApp) timesLocked(name string) (all []time.Time) {
	for _, c := range a.calls {
		if c.name == name {
			all = append(all, c.at)
		}
	}
	return all
}

// times are when a branch was called for an operation, in order.
func (a *branchApp) times(gid, branch, op string) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.timesLocked(fmt.Sprint("default/bank/", gid, " ", branch, " ", op))
}

// until waits for so many calls.
func (a *branchApp) until(n int, gid, branch, op string) []time.Time {
	a.t.Helper()
	harness.Eventually(a.t, patience, func() error {
		if got := a.times(gid, branch, op); len(got) < n {
			return fmt.Errorf("%s of %s was called %d times, want %d", op, gid, len(got), n)
		}
		return nil
	})
	return a.times(gid, branch, op)
}

// add adds a letter to an item, behind the barrier.
func (a *branchApp) add(c branchCall, key, letter string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	state := a.client.State("")
	item, err := state.Get(ctx, key)
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		return err
	}
	_, err = state.Transact(ctx, client.Transaction{Barrier: c.Barrier(), Operations: []client.Operation{
		client.SetKey(key, client.Item{Value: append(slices.Clone(item.Value), letter...)})}})
	return err
}

// effects are the letters of an item.
func (a *branchApp) effects(key string) string {
	a.t.Helper()
	item, err := a.client.State("").Get(within(a.t, patience), key)
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		a.t.Fatal(err)
	}
	return string(item.Value)
}
