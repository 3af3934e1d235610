package transaction

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
)

func steps(do Target, ids ...string) (c Content) {
	c = Content{Kind: Saga, Policy: Policy{Timeout: time.Second, CallTimeout: time.Second, FirstPause: time.Second, LongPause: time.Second}}
	for _, id := range ids {
		c.Branches = append(c.Branches, Branch{ID: id, Do: do})
	}
	return c
}

// TestWhatCannotBeSent is refused before it would be tried for ever.
func TestWhatCannotBeSent(t *testing.T) {
	fine := Target{Service: "shop/stock", Method: "/a.B/C", Metadata: map[string]string{"x-a": "ü"}}
	if _, err := steps(fine, "a", "step:2").complete(Policy{}); err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]Content{
		"an id": steps(fine, "ü"), "a line in an id": steps(fine, "a\n"), "a slash": steps(fine, "a/b"), "a space": steps(fine, "a b"),
		"a service": steps(Target{Service: "a/b/c", Method: "m"}, "1"), "no namespace": steps(Target{Service: "/c", Method: "m"}, "1"), "a service's line": steps(Target{Service: "a\n", Method: "m"}, "1"),
		"a method": steps(Target{Service: "a", Method: "m\r"}, "1"), "the sidecar's": steps(Target{Service: "a", Method: "/outrigger.state.v1.State/Get"}, "1"),
		"a verb": steps(Target{Service: "a", Method: "m", Verb: "P T"}, "1"), "a name": steps(Target{Service: "a", Method: "m", Metadata: map[string]string{"a b": ""}}, "1"),
		"a value": steps(Target{Service: "a", Method: "m", Metadata: map[string]string{"a": "\n"}}, "1"),
	} {
		if _, err := bad.complete(Policy{}); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
		bad.Branches[0].Undo, bad.Branches[0].Do = bad.Branches[0].Do, fine
		if _, err := bad.complete(Policy{}); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("%s, of a compensation: %v", what, err)
		}
	}
}

// TestAfterCounts: what steps wait for is part of their size.
func TestAfterCounts(t *testing.T) {
	c := steps(Target{Service: "s", Method: "m"}, "1", "2")
	c.Branches[1].After = make([]string, 100_000)
	if err := c.Fits(); !errors.Is(err, components.ErrExhausted) {
		t.Error(err)
	}
}

// TestVerbCounts: so is what HTTP services are asked with.
func TestVerbCounts(t *testing.T) {
	c := steps(Target{Service: "s", Method: "m", Verb: strings.Repeat("V", MaxContent)}, "1")
	if _, err := c.complete(Policy{}); !errors.Is(err, components.ErrExhausted) {
		t.Error(err)
	}
}

// TestSaidIsKept: what the component adds to a policy is told apart from what was said of it.
func TestSaidIsKept(t *testing.T) {
	c := steps(Target{Service: "s", Method: "m"}, "1")
	c.Policy = Policy{Timeout: time.Hour}
	one, err := c.complete(Policy{Timeout: time.Second, CallTimeout: time.Second, FirstPause: time.Second, LongPause: time.Second})
	if err != nil || one.Said != c.Policy || one.Policy.Timeout != time.Hour || one.Policy.CallTimeout != time.Second {
		t.Fatalf("%+v, %v", one, err)
	}
	two, err := c.complete(Policy{Timeout: time.Second, CallTimeout: time.Minute, FirstPause: time.Second, LongPause: time.Second})
	if err != nil || !one.Same(&two) {
		t.Errorf("%+v, %v", two, err)
	}
}

// nothing is a driver that is not called.
type nothing struct{ Driver }

func TestWhatIsToldFitsBarrierTables(t *testing.T) {
	front := New(componenttest.Component[Driver]("transaction", nothing{}), Options{})
	_, err := front.Begin(t.Context(), components.Caller{Namespace: "default", App: strings.Repeat("a", 63)}, strings.Repeat("g", 60), Content{}, false)
	if !errors.Is(err, components.ErrInvalid) || !strings.Contains(err.Error(), "128") {
		t.Error(err)
	}
}

// TestALargeCallStarvesNoSmallOne: what there is no credit for is passed by.
func TestALargeCallStarvesNoSmallOne(t *testing.T) {
	front, who := New(componenttest.Component[Driver]("transaction", nothing{}), Options{}), componenttest.Caller()
	s, err := front.Serve(t.Context(), who, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Grant(9, 100); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	large, small := make(chan error, 1), make(chan error, 1)
	go func() {
		large <- front.hub.call(ctx, who, &Call{Branch: "large", Target: Target{Stream: true, Data: make([]byte, 101)}})
	}()
	componenttest.Eventually(t, 5*time.Second, func() error {
		front.hub.mu.Lock()
		defer front.hub.mu.Unlock()
		if len(front.hub.waiting) == 0 {
			return errors.New("it does not wait")
		}
		return nil
	})
	if got, _, err := s.some(); len(got) > 0 || err != nil {
		t.Fatal(got, err)
	}
	go func() { small <- front.hub.call(ctx, who, &Call{Branch: "small", Target: Target{Stream: true}}) }()
	var got []Served
	componenttest.Eventually(t, 5*time.Second, func() (err error) {
		if got, _, err = s.some(); err == nil && len(got) == 0 {
			err = errors.New("it is not delivered")
		}
		return err
	})
	if len(got) != 1 || got[0].Branch != "small" {
		t.Fatal(got)
	}
	s.Ack(got[0].DeliveryID)
	if err := <-small; err != nil {
		t.Error(err)
	}
	cancel()
	<-large
}
