// Package payments takes money: a plain HTTP application, as any language could have it. From its sidecar it gets the key that
// it signs receipts with, and the state that it keeps receipts of orders in; its callers reach it by Invoke, and orders by sagas.
package payments

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// Limit is what a customer's card is good for, in cents.
const Limit = 500_000

// Charge is what POST /charge wants.
type Charge struct {
	Order int64 `json:"order"`
	Cents int64 `json:"cents"`
}

// Receipt is what POST /charge answers.
type Receipt struct {
	Signature string `json:"signature"`
	TraceID   string `json:"trace_id"`
}

// Takings is what GET /takings answers.
type Takings struct {
	Cents int64 `json:"cents"`
}

// Sign makes the signature of a receipt.
func Sign(key []byte, c Charge) string {
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "%d:%d", c.Order, c.Cents)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// ReceiptKey is where the state has the receipt of an order.
func ReceiptKey(order int64) string { return fmt.Sprintf("receipt/%d", order) }

// server takes the money.
type server struct {
	key   func(context.Context) ([]byte, error)
	till  *client.State
	taken atomic.Int64
}

// New makes the payment service's HTTP handler. Key answers what receipts are signed with; it is asked each time, so that the
// key may be changed without a restart. till has the receipts of orders; only steps of sagas need it.
func New(key func(context.Context) ([]byte, error), till *client.State) http.Handler {
	s := &server{key: key, till: till}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /charge", s.charge)
	mux.HandleFunc("POST /refund", s.refund)
	mux.HandleFunc("GET /receipt/{order}", s.receipt)
	mux.HandleFunc("GET /takings", s.takings)
	return mux
}

func (s *server) charge(w http.ResponseWriter, r *http.Request) {
	c, ok := read(w, r)
	if !ok {
		return
	}
	branch, isStep := client.BranchOf(r)
	if c.Cents > Limit {
		why := fmt.Sprintf("the card is good for %d cents, not for %d", Limit, c.Cents)
		if isStep {
			client.FailBranch(w, why)
		} else {
			http.Error(w, why, http.StatusPreconditionFailed)
		}
		return
	}
	key, err := s.key(r.Context())
	if err != nil {
		http.Error(w, "no key to sign with: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	receipt := Receipt{Signature: Sign(key, c), TraceID: traceID(r.Header.Get("traceparent"))}
	if isStep {
		text, _ := json.Marshal(receipt) // of two strings: it cannot fail
		if !s.once(w, r, branch, client.SetKey(ReceiptKey(c.Order), client.Item{Value: text, ContentType: "application/json"}), c.Cents) {
			return
		}
	} else {
		s.taken.Add(c.Cents)
	}
	answer(w, receipt)
}

// refund gives back what an order paid, if it did.
func (s *server) refund(w http.ResponseWriter, r *http.Request) {
	c, ok := read(w, r)
	if !ok {
		return
	}
	branch, _ := client.BranchOf(r)
	if s.once(w, r, branch, client.DeleteKey(ReceiptKey(c.Order)), -c.Cents) {
		answer(w, Takings{Cents: s.taken.Load()})
	}
}

// once does a step of an order behind the barrier of the state, so that a call which comes twice, or after the one that takes it back,
// takes no money. It has answered if it fails.
func (s *server) once(w http.ResponseWriter, r *http.Request, branch client.Branch, op client.Operation, cents int64) bool {
	done, err := s.till.Transact(r.Context(), client.Transaction{Barrier: branch.Barrier(), Operations: []client.Operation{op}})
	if err != nil {
		http.Error(w, "the till is shut: "+err.Error(), http.StatusServiceUnavailable)
		return false
	}
	if done.Outcome == client.Applied {
		s.taken.Add(cents)
	}
	return true
}

// receipt answers that of an order that was paid.
func (s *server) receipt(w http.ResponseWriter, r *http.Request) {
	order, _ := strconv.ParseInt(r.PathValue("order"), 10, 64)
	kept, err := s.till.Get(r.Context(), ReceiptKey(order))
	switch {
	case errors.Is(err, client.ErrNotFound):
		http.Error(w, "there is no receipt of this order", http.StatusNotFound)
	case err != nil:
		http.Error(w, "the till is shut: "+err.Error(), http.StatusServiceUnavailable)
	default:
		answer(w, json.RawMessage(kept.Value))
	}
}

func read(w http.ResponseWriter, r *http.Request) (c Charge, ok bool) {
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		http.Error(w, "this is no charge: "+err.Error(), http.StatusBadRequest)
		return c, false
	}
	return c, true
}

func (s *server) takings(w http.ResponseWriter, _ *http.Request) {
	answer(w, Takings{Cents: s.taken.Load()})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// A caller that has gone does not hear the answer: there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}

// traceID is the second part of a traceparent: https://www.w3.org/TR/trace-context/
func traceID(traceparent string) string {
	if parts := strings.Split(traceparent, "-"); len(parts) == 4 {
		return parts[1]
	}
	return ""
}
