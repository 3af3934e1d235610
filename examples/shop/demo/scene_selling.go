package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/examples/shop/payments"
	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// selling is calls between applications, in all the ways there are.
var selling = scene{"Customers buy", []check{
	{"place-order", "the till calls orders, whose saga calls stock (gRPC) and payments (HTTP): each call through two sidecars", placeOrder, func(ctx context.Context, s *shop) error {
		s.stock.stop(ctx)
		return nil
	}},
	{"order-total", "four pears at 120 cents", orderTotal, func(ctx context.Context, s *shop) error {
		return s.discount(ctx, 50) // the wrong price
	}},
	{"invoke-http", "the till calls payments itself, which is no gRPC server: Invoke makes HTTP of it", invokeHTTP, func(_ context.Context, s *shop) error {
		s.paymentsApp.kill()
		return nil
	}},
	{"secret-read", "the receipt is signed with the key that payments got from its sidecar", secretRead, func(_ context.Context, s *shop) error {
		return s.write("secrets/receipt-key", "another key")
	}},
	{"trace-passes", "the trace that a customer began is seen by the last application", tracePasses, func(_ context.Context, s *shop) error {
		s.traceparent = "00-5a-1b-00" // no trace context: https://www.w3.org/TR/trace-context/
		return nil
	}},
	{"http-json", "curl's way: POST to the till's HTTP port; payments has taken what was sold", httpJSON, func(ctx context.Context, s *shop) error {
		_, err := post(ctx, "http://"+address(s.paymentsPort)+"/charge", payments.Charge{Cents: 5}) // somebody pays and gets nothing
		return err
	}},
	{"plain-grpc", "a gRPC client without SDK names the service as its authority", plainGRPC, func(ctx context.Context, s *shop) error {
		s.stock.stop(ctx)
		return nil
	}},
	{"metrics-count", "five orders are ten calls more at the sidecar of payments, a charge and a question for the receipt each", metricsCount, func(_ context.Context, s *shop) error {
		return s.during(func(ctx context.Context) error {
			_, err := s.charge(ctx, payments.Charge{Cents: 1}) // somebody else pays all the time
			return err
		})
	}},
}}

func placeOrder(ctx context.Context, s *shop) (expected, seen string, err error) {
	o, err := s.buy(ctx, "apple", 3)
	return "3 x apple from shelf-1", fmt.Sprintf("%d x %s from %s", o.GetQuantity(), o.GetItem(), o.GetShelf()), err
}

func orderTotal(ctx context.Context, s *shop) (expected, seen string, err error) {
	o, err := s.buy(ctx, "pear", 4)
	return "480 cents", fmt.Sprintf("%d cents", o.GetCents()), err
}

// charge has the till ask for money.
func (s *shop) charge(ctx context.Context, c payments.Charge) (client.Response, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return client.Response{}, err
	}
	return s.customer.Invoke(ctx, "payments", "charge", body, client.ContentType("application/json"))
}

func invokeHTTP(ctx context.Context, s *shop) (expected, seen string, err error) {
	c := payments.Charge{Order: 1000, Cents: 250}
	r, err := s.charge(ctx, c)
	if err == nil {
		s.sold += c.Cents
	}
	return "HTTP 200, application/json, a receipt", fmt.Sprintf("HTTP %d, %s, %s", r.HTTPStatus, r.ContentType, receiptIn(r.Data)), err
}

// receiptIn tells whether there is one.
func receiptIn(text []byte) string {
	var r payments.Receipt
	if json.Unmarshal(text, &r) != nil || r.Signature == "" {
		return "no receipt: " + string(text)
	}
	return "a receipt"
}

func secretRead(ctx context.Context, s *shop) (expected, seen string, err error) {
	o, err := s.buy(ctx, "apple", 1)
	expected = payments.Sign([]byte(receiptKey), payments.Charge{Order: o.GetNumber(), Cents: o.GetCents()})
	return "signature " + expected, "signature " + o.GetReceipt().GetSignature(), err
}

func tracePasses(ctx context.Context, s *shop) (expected, seen string, err error) {
	o, err := s.buy(metadata.AppendToOutgoingContext(ctx, "traceparent", s.traceparent), "apple", 1)
	return "trace 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", "trace " + o.GetReceipt().GetTraceId(), err
}

func httpJSON(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = fmt.Sprintf("HTTP 200, %d cents", s.sold)
	text, err := post(ctx, "http://"+s.till.ports["http"]+"/outrigger.invocation.v1.Invocation/Invoke",
		map[string]any{"service": "payments", "method": "takings", "verb": "GET"})
	if err != nil {
		return expected, "", err
	}
	var answer struct{ Data []byte }
	if err := json.Unmarshal(text, &answer); err != nil {
		return expected, string(text), err
	}
	var t payments.Takings
	err = json.Unmarshal(answer.Data, &t)
	return expected, fmt.Sprintf("HTTP 200, %d cents", t.Cents), err
}

// post sends JSON and answers what comes back; a status other than 200 is an error.
func post(ctx context.Context, url string, what any) ([]byte, error) {
	body, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %d: %s", res.StatusCode, text)
	}
	return text, err
}

func plainGRPC(ctx context.Context, s *shop) (expected, seen string, err error) {
	conn, err := grpc.NewClient(s.till.ports["outbound"], grpc.WithAuthority("stock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "shelf-1", "", err
	}
	defer conn.Close()
	shelf, err := shoppb.NewStockClient(conn).Inspect(ctx, &shoppb.InspectRequest{})
	return "shelf-1", shelf.GetName(), err
}

func metricsCount(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "10 calls"
	before, err := s.payments.calls(ctx)
	for range 5 {
		if err == nil {
			_, err = s.buy(ctx, "apple", 1)
		}
	}
	if err != nil {
		return expected, "", err
	}
	after, err := s.payments.calls(ctx)
	return expected, fmt.Sprintf("%d calls", after-before), err
}
