package dtm_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// TestDataIsKeptOnce: DTM keeps data that action and compensation have in common once, and each is called with its own.
func TestDataIsKeptOnce(t *testing.T) {
	var got []byte
	r := newRig(t, func(_ context.Context, c *transaction.Call) error { got = c.Target.Data; return nil })
	for name, data := range map[string]struct {
		do, undo []byte
		copies   int // of "order" in what DTM keeps
	}{
		"same":   {[]byte("order 17"), []byte("order 17"), 1},
		"others": {[]byte("order 17"), []byte("order 18"), 2},
		"one":    {[]byte("order 17"), nil, 1},
		"undo":   {nil, []byte("order 17"), 1},
		"none":   {nil, nil, 0},
	} {
		c := transaction.Content{Kind: transaction.Saga, Policy: transaction.Policy{Timeout: time.Minute, CallTimeout: time.Second, FirstPause: time.Second, LongPause: time.Second},
			Branches: []transaction.Branch{{ID: "1", Do: transaction.Target{Service: "stock", Method: "do", Data: data.do},
				Undo: transaction.Target{Service: "stock", Method: "undo", Data: data.undo}}}}
		if _, err := r.driver.Begin(t.Context(), application+name, c); err != nil {
			t.Fatal(err)
		}
		if _, err := r.driver.Begin(t.Context(), application+name, c); err != nil {
			t.Errorf("%s: begun again: %v", name, err)
		}
		q := r.told[len(r.told)-1]
		if n := bytes.Count(q.BinPayloads[0], []byte("order")); n != data.copies {
			t.Errorf("%s: DTM keeps it %d times, want %d", name, n, data.copies)
		}
		for _, call := range []struct {
			op   string
			want []byte
		}{{"action", data.do}, {"compensate", data.undo}} {
			if err := r.step(q, 0, call.op); err != nil {
				t.Errorf("%s: %s: %v", name, call.op, err)
			}
			if !bytes.Equal(got, call.want) {
				t.Errorf("%s: %s is called with %q, want %q", name, call.op, got, call.want)
			}
		}
	}
}

// TestACommitTellsOfDeliveries: of a message that is submitted already, as by who committed it at the same time, DTM makes those that it is told, and without any it would
// be over with nothing delivered.
func TestACommitTellsOfDeliveries(t *testing.T) {
	r := newRig(t, well)
	to := func(method string) transaction.Target { return transaction.Target{Service: "stock", Method: method} }
	c := transaction.Content{Kind: transaction.Message, Policy: transaction.Policy{Timeout: time.Minute, CallTimeout: time.Second, FirstPause: time.Second, LongPause: time.Second},
		Check: to("check"), Branches: []transaction.Branch{{ID: "1", Do: to("one")}, {ID: "2", Do: to("two")}}}
	if _, err := r.driver.Begin(t.Context(), application+"g", c); err != nil {
		t.Fatal(err)
	}
	if _, err := r.driver.(transaction.Awaiter).DecideAndWait(t.Context(), application+"g", transaction.Commit); err != nil {
		t.Fatal(err)
	}
	begun, submitted := r.told[0], r.told[len(r.told)-1]
	if len(r.told) != 2 || submitted.Steps != begun.Steps || !slices.EqualFunc(submitted.BinPayloads, begun.BinPayloads, bytes.Equal) {
		t.Errorf("submitted are %q, begun were %q", submitted.Steps, begun.Steps)
	}
}
