// Package payments takes money: a plain HTTP application, as any language could have it. From its sidecar it gets the key that
// it signs receipts with; its callers reach it by Invoke.
package payments

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
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

// server takes the money.
type server struct {
	key   func(context.Context) ([]byte, error)
	taken atomic.Int64
}

// New makes the payment service's HTTP handler. Key answers what receipts are signed with; it is asked each time, so that the
// key may be changed without a restart.
func New(key func(context.Context) ([]byte, error)) http.Handler {
	s := &server{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /charge", s.charge)
	mux.HandleFunc("GET /takings", s.takings)
	return mux
}

func (s *server) charge(w http.ResponseWriter, r *http.Request) {
	var c Charge
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		http.Error(w, "this is no charge: "+err.Error(), http.StatusBadRequest)
		return
	}
	if c.Cents > Limit {
		http.Error(w, fmt.Sprintf("the card is good for %d cents, not for %d", Limit, c.Cents), http.StatusPreconditionFailed)
		return
	}
	key, err := s.key(r.Context())
	if err != nil {
		http.Error(w, "no key to sign with: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	s.taken.Add(c.Cents)
	answer(w, Receipt{Signature: Sign(key, c), TraceID: traceID(r.Header.Get("traceparent"))})
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
