// Package transactiontest is what each driver of transactions must do: Run holds one to it.
package transactiontest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// Backend is a coordinator of its own that had nothing to do.
type Backend struct {
	// Open opens a driver, as one more process would.
	Open func() transaction.Driver
	// Policy is that of the suite's transactions: its pauses are waited for. Short is the timeout of those that are to reach it.
	Policy transaction.Policy
	Short  time.Duration
	// Patience is how long the suite waits for what must happen; 0: 10 s. Calm is how long it looks for what must not; 0: 200 ms.
	Patience, Calm time.Duration
}

// Harness makes a backend for one test and undoes it by t.Cleanup.
type Harness func(t *testing.T) Backend

// Run runs the suite.
func Run(t *testing.T, open Harness) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			s := &suite{T: t, Backend: open(t), log: &log{changed: make(chan struct{})}}
			if s.Patience == 0 {
				s.Patience = 10 * time.Second
			}
			if s.Calm == 0 {
				s.Calm = 200 * time.Millisecond
			}
			s.driver = s.open()
			s.drive(s.driver, app)
			c.run(s)
		})
	}
}

var cases = []struct {
	name string
	run  func(*suite)
}{
	{"SagaOK", sagaOK}, {"SagaFails", sagaFails}, {"AtOnce", atOnce}, {"SagaConcurrent", sagaConcurrent}, {"SagaUnknown", sagaUnknown}, {"SagaTimeout", sagaTimeout},
	{"Undo", undo}, {"Call", call}, {"Same", same}, {"Other", other}, {"Absent", absent}, {"AbortSaga", abortSaga},
	{"TCCCommit", tccCommit}, {"TCCAbort", tccAbort}, {"TCCTimeout", tccTimeout}, {"TCCNotTried", tccNotTried}, {"TCCLate", tccLate}, {"TCCBranches", tccBranches},
	{"MessageSubmit", messageSubmit}, {"MessageCheck", messageCheck}, {"MessageFailed", messageFailed}, {"MessageAbort", messageAbort}, {"MessageInsists", messageInsists},
	{"Retry", retry}, {"GiveUp", giveUp}, {"List", list}, {"Restart", restart}, {"Leaves", leaves}, {"One", one}, {"Applications", applications},
}

type suite struct {
	*testing.T
	Backend
	driver transaction.Driver
	log    *log
	gids   int
}

const app = "shop/orders/"

func (s *suite) open() transaction.Driver {
	d := s.Open()
	s.Cleanup(func() { componenttest.Close(s.T, d) })
	return d
}

// drive has a driver drive until the test ends, or stop is called.
func (s *suite) drive(d transaction.Driver, application string) (stop func()) {
	ctx, cancel := context.WithCancel(s.Context())
	var over sync.WaitGroup
	over.Go(func() {
		for ctx.Err() == nil {
			_ = d.Drive(ctx, application, s.log.call)
		}
	})
	stop = func() { cancel(); over.Wait() }
	s.Cleanup(stop)
	return stop
}

// log is what services were called for, and what they answer.
type log struct {
	mu      sync.Mutex
	calls   []transaction.Call
	answer  func(ctx context.Context, c *transaction.Call) error // nil: OK
	changed chan struct{}
}

func (l *log) call(ctx context.Context, c *transaction.Call) error {
	l.mu.Lock()
	l.calls = append(l.calls, *c)
	close(l.changed)
	l.changed = make(chan struct{})
	answer := l.answer
	l.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, c)
}

func (s *suite) answers(answer func(c *transaction.Call) error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.answer = func(_ context.Context, c *transaction.Call) error { return answer(c) }
}

// said are the calls of a transaction, as OP BRANCH.
func (s *suite) said(gid string) (all []string) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for _, c := range s.log.calls {
		if c.GID == app+gid {
			all = append(all, c.Op+" "+c.Branch)
		}
	}
	return all
}

func (s *suite) want(gid string, calls ...string) {
	s.Helper()
	if got := s.said(gid); !slices.Equal(got, calls) {
		s.Fatalf("%s was called for %q, want %q", gid, got, calls)
	}
}

// wantSet is want in any order.
func (s *suite) wantSet(gid string, calls ...string) {
	s.Helper()
	got := s.said(gid)
	slices.Sort(got)
	if slices.Sort(calls); !slices.Equal(got, calls) {
		s.Fatalf("%s was called for %q, want %q", gid, got, calls)
	}
}

// until waits for so many calls of a transaction.
func (s *suite) until(gid string, n int) {
	s.Helper()
	componenttest.Eventually(s.T, s.Patience, func() error {
		if got := s.said(gid); len(got) < n {
			return fmt.Errorf("%d calls of %s, want %d", len(got), gid, n)
		}
		return nil
	})
}

func (s *suite) gid() string {
	s.gids++
	return fmt.Sprintf("g%d", s.gids)
}

func target(method string) transaction.Target {
	return transaction.Target{Service: "stock", Method: method, Data: []byte("data of " + method), ContentType: "text/plain", Metadata: map[string]string{"k": "v"}}
}

func step(id string, after ...string) transaction.Branch {
	return transaction.Branch{ID: id, After: after, Do: target("do " + id), Undo: target("undo " + id)}
}

func (s *suite) saga(branches ...transaction.Branch) transaction.Content {
	return transaction.Content{Kind: transaction.Saga, Policy: s.Policy, Branches: branches, Trace: map[string]string{traceparent: began}}
}

const traceparent, began = "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// traced: each call of a saga that was made belongs to the trace of who began it.
func (s *suite) traced() {
	s.Helper()
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for i := range s.log.calls {
		if c := &s.log.calls[i]; c.Kind == transaction.Saga && c.Trace[traceparent] != began {
			s.Errorf("%s %s of %s, attempt %d, belongs to the trace %q", c.Op, c.Branch, c.GID, c.Attempt, c.Trace)
		}
	}
}

func (s *suite) begin(gid string, c transaction.Content) transaction.Info {
	s.Helper()
	info, err := s.driver.Begin(s.Context(), app+gid, c)
	if err != nil {
		s.Fatalf("begin %s: %v", gid, err)
	}
	return info
}

// ends waits for the end, which has to be so.
func (s *suite) ends(gid string, want transaction.State) transaction.Info {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), s.Patience)
	defer cancel()
	info, err := s.driver.Wait(ctx, app+gid)
	if err != nil || info.State != want {
		now, _ := s.driver.Get(s.Context(), app+gid)
		s.Fatalf("%s ends %q, %v; want %s; it is %+v; calls %q", gid, info.State, err, want, now, s.said(gid))
	}
	return info
}

func (s *suite) is(gid string, want transaction.State) transaction.Info {
	s.Helper()
	info, err := s.driver.Get(s.Context(), app+gid)
	if err != nil || info.State != want {
		s.Fatalf("%s is %q, %v; want %s", gid, info.State, err, want)
	}
	return info
}

func (s *suite) decide(gid string, d transaction.Decision) {
	s.Helper()
	if _, err := s.driver.Decide(s.Context(), app+gid, d); err != nil {
		s.Fatalf("%s %s: %v", d, gid, err)
	}
}

func (s *suite) refused(what string, err, kind error) {
	s.Helper()
	if !errors.Is(err, kind) {
		s.Fatalf("%s: %v, want %v", what, err, kind)
	}
}

var (
	errAway = errors.New("it is away")
	errNo   = transaction.Failed(errors.New("it cannot be done"))
)
