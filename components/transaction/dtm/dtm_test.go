package dtm_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/components/transaction/dtm"
)

func well(context.Context, *transaction.Call) error { return nil }

func (r *rig) want(calls ...string) {
	r.Helper()
	if got := r.said(); !slices.Equal(got, calls) {
		r.Fatalf("it was called for %q, want %q", got, calls)
	}
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

// TestNobodyElseHasBranchesCalled: neither without the token, nor with what was handed to DTM for another transaction.
func TestNobodyElseHasBranchesCalled(t *testing.T) {
	r := newRig(t, well)
	one, two := r.saga("shop/orders/one", "1"), r.saga("shop/orders/two", "1")
	changed := append([]byte(nil), one.BinPayloads[0]...)
	changed[len(changed)-1]++
	url := strings.Split(strings.Split(one.Steps, `"action":"`)[1], `"`)[0]
	wantCode(t, "no token", r.branch(one.Gid, r.listen+"/outrigger.dtm/guess", "action", one.BinPayloads[0]), codes.PermissionDenied)
	wantCode(t, "another gid", r.branch(two.Gid, url, "action", two.BinPayloads[0]), codes.PermissionDenied)
	wantCode(t, "another payload", r.branch(one.Gid, url, "action", two.BinPayloads[0]), codes.PermissionDenied)
	wantCode(t, "changed", r.branch(one.Gid, url, "action", changed), codes.PermissionDenied)
	wantCode(t, "nothing", r.branch(one.Gid, url, "action", nil), codes.PermissionDenied)
	r.want()
	if err := r.branch(one.Gid, url, "action", one.BinPayloads[0]); err != nil {
		t.Error(err)
	}
	r.want("action 1")
}

// TestTwoOfDTMsCallsAreOne: what is under way is not begun again, and what is known is not asked for again.
func TestTwoOfDTMsCallsAreOne(t *testing.T) {
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	r := newRig(t, func(context.Context, *transaction.Call) error { entered <- struct{}{}; <-leave; return nil })
	q := r.saga("shop/orders/g", "1")
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := r.step(q, 0, "action"); err != nil {
				t.Error(err)
			}
		})
	}
	<-entered
	time.Sleep(50 * time.Millisecond) // the other one may come
	close(leave)
	both.Wait()
	if err := r.step(q, 0, "action"); err != nil {
		t.Error(err)
	}
	r.want("action 1")
}

// TestOutcomes are DTM's words for what branches answer.
func TestOutcomes(t *testing.T) {
	answers := map[string]error{"well": nil, "no": transaction.Failed(errors.New("no \x00money")), "away": errors.New("away")}
	r := newRig(t, func(_ context.Context, c *transaction.Call) error { return answers[c.Branch] })
	q := r.saga("shop/orders/g", "well", "no", "away")
	wantCode(t, "OK", r.step(q, 0, "action"), codes.OK)
	err := r.step(q, 1, "action")
	wantCode(t, "failed", err, codes.Aborted)
	if text := status.Convert(err).Message(); !strings.Contains(text, "money FAILURE") || strings.Contains(text, "\x00") {
		t.Errorf("%q", text)
	}
	wantCode(t, "a compensation that fails", r.step(q, 1, "compensate"), codes.FailedPrecondition)
	wantCode(t, "unknown", r.step(q, 2, "action"), codes.FailedPrecondition)
	wantCode(t, "in its pause", r.step(q, 2, "action"), codes.FailedPrecondition)
	r.want("action well", "action no", "compensation no", "action away")
}

// TestALateActionIsNotCalled once its compensation was, and one that is under way ends before that.
func TestALateActionIsNotCalled(t *testing.T) {
	entered := make(chan struct{})
	var mu sync.Mutex
	under := false
	r := newRig(t, func(ctx context.Context, c *transaction.Call) error {
		mu.Lock()
		if under {
			t.Error("two calls of a branch at once")
		}
		under = true
		mu.Unlock()
		defer func() { mu.Lock(); under = false; mu.Unlock() }()
		if c.Op != transaction.OpAction {
			return nil
		}
		select {
		case <-entered: // it is called late
			return nil
		default:
			close(entered)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	q := r.saga("shop/orders/g", "1")
	first := make(chan error, 1)
	go func() { first <- r.step(q, 0, "action") }()
	<-entered
	wantCode(t, "the compensation", r.step(q, 0, "compensate"), codes.OK)
	wantCode(t, "the action", <-first, codes.FailedPrecondition)
	wantCode(t, "a late action", r.step(q, 0, "action"), codes.Aborted)
	r.want("action 1", "compensation 1")
}

// TestOthersAreSentAway: the connection ends, so that the next one may lead to another sidecar.
func TestOthersAreSentAway(t *testing.T) {
	r := newRig(t, well)
	q := r.saga("shop/others/g", "1")
	wantCode(t, "another application's", r.step(q, 0, "action"), codes.Unavailable)
	r.want()
}

// TestWhatDTMHasNoRoomFor is refused before DTM is told.
func TestWhatDTMHasNoRoomFor(t *testing.T) {
	r := newRig(t, well)
	begin := func(key string, change func(c *transaction.Content)) error {
		c := transaction.Content{Kind: transaction.Saga, Policy: transaction.Policy{Timeout: time.Minute, CallTimeout: time.Second, FirstPause: 1, LongPause: 1}}
		change(&c)
		_, err := r.driver.Begin(t.Context(), key, c)
		return err
	}
	steps := func(n, after int) func(c *transaction.Content) {
		return func(c *transaction.Content) {
			for i := range n {
				b := transaction.Branch{ID: fmt.Sprint(i), Do: transaction.Target{Service: "s", Method: "m"}}
				if i >= after {
					b.After = []string{fmt.Sprint(i - after)}
				}
				c.Branches = append(c.Branches, b)
			}
		}
	}
	for what, c := range map[string]struct{ err, want error }{
		"a long gid":      {begin("shop/orders/"+strings.Repeat("g", 114), steps(1, 1)), components.ErrInvalid},
		"one that fits":   {begin("shop/orders/"+strings.Repeat("g", 100), steps(1, 1)), nil},
		"500 steps":       {begin("shop/orders/a", steps(500, 1)), components.ErrExhausted},
		"499 in a line":   {begin("shop/orders/b", steps(499, 1)), nil},
		"a complex order": {begin("shop/orders/c", steps(400, 2)), components.ErrExhausted},
		"a simple one":    {begin("shop/orders/d", steps(40, 2)), nil},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", what, c.err, c.want)
		}
	}
}

// TestGidsInDTM: none is how another one begins, what DTM does not bear is not in them, and each is told apart.
func TestGidsInDTM(t *testing.T) {
	r := newRig(t, well)
	for gid, want := range map[string]string{"g1": "shop/orders/g1/", "a'b;c": "shop/orders/a%27b%3Bc/", "ü": "shop/orders/%C3%BC/"} {
		if q := r.saga("shop/orders/"+gid, "1"); q.Gid != want {
			t.Errorf("%q, want %q", q.Gid, want)
		} else if err := r.step(q, 0, "action"); err != nil {
			t.Errorf("%q: %v", gid, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if !strings.HasPrefix(c.GID, application) || strings.Contains(c.GID, "%") {
			t.Errorf("branches are told %q", c.GID)
		}
	}
}

// TestSecondsAreNotTooFew: DTM counts in whole ones, from when a rounded time says that it began.
func TestSecondsAreNotTooFew(t *testing.T) {
	r := newRig(t, well)
	if o := r.saga("shop/orders/g", "1").TransOptions; o.TimeoutToFail != 61 || o.RetryInterval != 3 || o.RequestTimeout != 12 || o.WaitResult {
		t.Errorf("%v", o)
	}
}

// TestDTMIsAway: who begins a transaction is told within the time for a request, and what is known of it.
func TestDTMIsAway(t *testing.T) {
	r := newRig(t, well)
	held := make(chan struct{})
	r.fake.mu.Lock()
	r.held = held
	r.fake.mu.Unlock()
	defer close(held)
	var all sync.WaitGroup
	defer all.Wait()
	for what, ask := range map[string]func() error{
		"begin": func() error {
			_, err := r.driver.Begin(t.Context(), "shop/orders/g", transaction.Content{Kind: transaction.Saga, New: true})
			return err
		},
		"begin and wait": func() error {
			_, err := r.driver.(transaction.Awaiter).BeginAndWait(t.Context(), "shop/orders/g", transaction.Content{Kind: transaction.Saga, New: true})
			return err
		},
		"get":   func() error { _, err := r.driver.Get(t.Context(), "shop/orders/g"); return err },
		"check": func() error { return r.driver.(components.Checker).Check(t.Context()) },
	} {
		all.Go(func() {
			begun := time.Now()
			err := ask()
			var d *components.Detail
			want := backend.ReasonUnreachable
			if strings.HasPrefix(what, "begin") {
				want = backend.ReasonOutcomeUnknown
			}
			if !errors.Is(err, components.ErrUnavailable) || !errors.As(err, &d) || d.Reason != want || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want %s", what, err, want)
			}
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("%s: told after %s", what, took)
			}
		})
	}
}

// TestAPortThatIsTaken shows where it is looked whether all is well.
func TestAPortThatIsTaken(t *testing.T) {
	f := newFake(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := &rig{T: t, fake: f, listen: l.Addr().String()}
	d, err := dtm.Open(t.Context(), env(t), r.options())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.(components.Closer).Close(t.Context()) }()
	if err := d.Drive(t.Context(), application, well); !errors.Is(err, components.ErrUnavailable) {
		t.Error(err)
	}
	if err := d.(components.Checker).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Error(err)
	}
}

// TestWhatDTMHasNotStored is not acknowledged, and nothing is called of it: DTM goes through what its data base has refused to keep, and does not say so.
func TestWhatDTMHasNotStored(t *testing.T) {
	r := newRig(t, well)
	step := transaction.Branch{ID: "1", Do: transaction.Target{Service: "stock", Method: "do"}}
	policy := transaction.Policy{Timeout: time.Minute, CallTimeout: time.Second, FirstPause: time.Second, LongPause: time.Second}
	open := []string{"shop/orders/tcc", "shop/orders/letter"}
	for i, c := range []transaction.Content{{Kind: transaction.TCC, Policy: policy}, {Kind: transaction.Message, Policy: policy, Check: step.Do, Branches: []transaction.Branch{step}}} {
		if _, err := r.driver.Begin(r.Context(), open[i], c); err != nil {
			t.Fatal(err)
		}
	}
	begun := len(r.told)
	r.fake.mu.Lock()
	r.full = true
	r.fake.mu.Unlock()
	for _, gid := range open {
		if info, err := r.driver.Decide(r.Context(), gid, transaction.Commit); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("commit of %s: %+v, %v, want unavailable", gid, info, err)
		}
	}
	begun += len(open)
	for _, c := range []transaction.Content{
		{Kind: transaction.Message, Policy: policy, Check: step.Do, Branches: []transaction.Branch{step}},
		{Kind: transaction.Saga, Policy: policy, Branches: []transaction.Branch{step}},
	} {
		if _, err := r.driver.Begin(r.Context(), "shop/orders/"+string(c.Kind), c); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("%s: %v, want unavailable", c.Kind, err)
		}
	}
	waits := r.driver.(transaction.Awaiter)
	if _, err := waits.BeginAndWait(r.Context(), "shop/orders/waits", transaction.Content{Kind: transaction.Saga, Policy: policy, Branches: []transaction.Branch{step}}); err != nil {
		t.Fatal(err) // the fake has answered that it has ended
	}
	for _, q := range r.told[begun+1:] {
		wantCode(t, q.Gid, r.step(q, 0, "action"), codes.FailedPrecondition)
	}
	r.want()
}

// TestStuck: what has to succeed is counted from its tenth attempt in vain on, and no longer once it is OK; an action is not.
func TestStuck(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	r := newRig(t, func(context.Context, *transaction.Call) error {
		if away.Load() {
			return errors.New("away")
		}
		return nil
	})
	c := transaction.Content{Kind: transaction.Saga, Policy: transaction.Policy{Timeout: time.Minute, CallTimeout: 10 * time.Second, FirstPause: time.Millisecond,
		LongPause: time.Millisecond}, Branches: []transaction.Branch{{ID: "1", Do: transaction.Target{Service: "stock", Method: "do"}, Undo: transaction.Target{Service: "stock", Method: "undo"}}}}
	if _, err := r.driver.Begin(r.Context(), "shop/orders/g", c); err != nil {
		t.Fatal(err)
	}
	r.try("action", transaction.StuckAfter+1)
	r.stuck(0)
	r.try("compensate", transaction.StuckAfter-1)
	r.stuck(0)
	r.try("compensate", 1)
	r.stuck(1)
	away.Store(false)
	r.try("compensate", 1)
	r.stuck(0)
}

// try has DTM ask until a number of calls more were made.
func (r *rig) try(op string, more int) {
	r.Helper()
	for want := len(r.said()) + more; len(r.said()) < want; {
		_ = r.step(r.told[0], 0, op) // in a pause it makes none
	}
}

func (r *rig) stuck(want float64) {
	r.Helper()
	if got, told := metrics(r.T, r.meter)["outrigger_transactions_stuck"]; got != want || !told {
		r.Errorf("%v transactions are stuck, %t, want %v", got, told, want)
	}
}

func TestOptions(t *testing.T) {
	defaults, _ := transaction.Drivers.Defaults("dtm")
	for want, change := range map[string]func(o *dtm.Options){
		"":                func(*dtm.Options) {},
		"address":         func(o *dtm.Options) { o.Address = "dtm" },
		"http":            func(o *dtm.Options) { o.HTTP = "http://dtm:36789" },
		"listen":          func(o *dtm.Options) { o.Listen = "127.0.0.1:0" },
		"callback":        func(o *dtm.Options) { o.Listen = ":7073" },
		"token":           func(o *dtm.Options) { o.Token = "short" },
		"prefix":          func(o *dtm.Options) { o.Prefix = "a/b" },
		"concurrency":     func(o *dtm.Options) { o.Concurrency = 0 },
		"first_pause":     func(o *dtm.Options) { o.FirstPause = time.Hour },
		"retry_interval":  func(o *dtm.Options) { o.RetryInterval = 1500 * time.Millisecond },
		"request_timeout": func(o *dtm.Options) { o.RequestTimeout = 0 },
	} {
		o := defaults.(dtm.Options)
		change(&o)
		if err := o.Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want+":") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestOneTokenOfAFolder: sidecars that share it answer each other's transactions.
func TestOneTokenOfAFolder(t *testing.T) {
	r := newRig(t, well)
	e := env(t)
	o := r.options()
	o.Listen = free(t)
	urls := map[string]bool{}
	for range 2 {
		d, err := dtm.Open(t.Context(), e, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Begin(t.Context(), "shop/orders/g", transaction.Content{Kind: transaction.Saga, New: true, Branches: []transaction.Branch{{ID: "1",
			Do: transaction.Target{Service: "s", Method: "m"}}}}); err != nil {
			t.Error(err)
		}
		urls[r.told[len(r.told)-1].Steps] = true
		_ = d.(components.Closer).Close(t.Context())
	}
	if len(urls) != 1 {
		t.Errorf("%v", urls)
	}
}
