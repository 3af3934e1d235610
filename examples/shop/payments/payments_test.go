package payments_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/examples/shop/payments"
)

func TestCharge(t *testing.T) {
	key := func(context.Context) ([]byte, error) { return []byte("k"), nil }
	none := func(context.Context) ([]byte, error) { return nil, errors.New("the vault is shut") }
	for _, test := range []struct {
		name, body string
		key        func(context.Context) ([]byte, error)
		status     int
		taken      int64
	}{
		{"paid", `{"order": 1, "cents": 250}`, key, http.StatusOK, 250},
		{"too dear", `{"order": 1, "cents": 500001}`, key, http.StatusPreconditionFailed, 0},
		{"no charge", `money`, key, http.StatusBadRequest, 0},
		{"no key", `{"order": 1, "cents": 250}`, none, http.StatusServiceUnavailable, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := payments.New(test.key, nil)
			r := httptest.NewRequest(http.MethodPost, "/charge", strings.NewReader(test.body))
			r.Header.Set("traceparent", "00-abc-def-01")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != test.status {
				t.Fatalf("HTTP %d: %s", w.Code, w.Body)
			}
			if test.status == http.StatusOK {
				var got payments.Receipt
				want := payments.Receipt{Signature: payments.Sign([]byte("k"), payments.Charge{Order: 1, Cents: 250}), TraceID: "abc"}
				if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got != want {
					t.Errorf("receipt %+v (%v), want %+v", got, err, want)
				}
			}
			w = httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/takings", nil))
			var got payments.Takings
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Cents != test.taken {
				t.Errorf("takings %+v (%v), want %d", got, err, test.taken)
			}
		})
	}
}
