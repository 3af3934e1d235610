package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

const left = "/shop.Stock/Left"

var both = &grpc.StreamDesc{StreamName: "Left", ClientStreams: true, ServerStreams: true}

func TestConn(t *testing.T) {
	w := newWorld()
	c := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target))
	var out wrapperspb.StringValue
	if err := c.Conn("stock").Invoke(within(t), left, wrapperspb.String("pens"), &out); err != nil || out.GetValue() != "7 of pens" {
		t.Errorf("answer %q: %v", out.GetValue(), err)
	}
	err := c.Conn("stork").Invoke(within(t), left, wrapperspb.String("pens"), &out)
	if !errors.Is(err, client.ErrNotFound) || client.Origin(err) != client.OriginSidecar {
		t.Errorf("unknown service: %v, origin %q", err, client.Origin(err))
	}

	// What the application says stays as it is: its own UNAVAILABLE has no reason of ours.
	var trailer metadata.MD
	err = c.Conn("stock").Invoke(within(t), left, wrapperspb.String("anvil"), &out, grpc.Trailer(&trailer))
	if client.Reason(err) != "" || client.Origin(err) != client.OriginApp || status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "no more anvils" {
		t.Errorf("error of the application: %v", err)
	}
	if len(trailer["outrigger-origin"]) != 1 {
		t.Errorf("the caller's own trailer: %v", trailer)
	}
}

func TestConnStreams(t *testing.T) {
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target))
	s, err := c.Conn("stock").NewStream(within(t), both, left)
	if err != nil {
		t.Fatal(err)
	}
	send := func(text string) {
		t.Helper()
		if err := s.SendMsg(wrapperspb.String(text)); err != nil {
			t.Fatal(err)
		}
	}
	var out wrapperspb.StringValue
	for _, text := range []string{"pens", "ink"} {
		send(text)
		if err := s.RecvMsg(&out); err != nil || out.GetValue() != "7 of "+text {
			t.Errorf("answer %q: %v", out.GetValue(), err)
		}
	}
	if _, err := s.Header(); err != nil {
		t.Error(err)
	}
	send("anvil")
	if err := s.RecvMsg(&out); !errors.Is(err, client.ErrUnavailable) || client.Origin(err) != client.OriginApp {
		t.Errorf("error %v", err)
	}

	if s, err = c.Conn("stock").NewStream(within(t), both, left); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.CloseSend()); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&out); err != io.EOF { //nolint:errorlint // generated stubs compare
		t.Errorf("end of the stream: %v", err)
	}
}

func TestAPI(t *testing.T) {
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target))
	large := make([]byte, 3<<20)
	if _, err := c.Cache("").Set(within(t), "large", client.Item{Value: large}); err != nil {
		t.Fatal(err)
	}
	r, err := cachev1.NewCacheClient(c.API()).GetMany(within(t), &cachev1.GetManyRequest{Keys: []string{"large", "large"}})
	if err != nil || len(r.GetResults()) != 2 { // more than gRPC would take by default
		t.Errorf("answer: %v", err)
	}
}

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// incoming is the context of a handler of a call with that metadata.
func incoming(t *testing.T, pairs ...string) context.Context {
	return metadata.NewIncomingContext(within(t), metadata.Pairs(pairs...))
}

func TestCallsPropagate(t *testing.T) {
	w := newWorld()
	c := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target))
	ctx := incoming(t, "traceparent", parent, "tracestate", "a=1", "baggage", "user=7", "outrigger-hops", "3", "authorization", "secret", "outrigger-service", "me")
	var out wrapperspb.StringValue
	for name, do := range map[string]func(context.Context) error{
		"/outrigger.cache.v1.Cache/Exists": func(ctx context.Context) error { _, err := c.Cache("").Exists(ctx, "a"); return err },
		left: func(ctx context.Context) error {
			return c.Conn("stock").Invoke(ctx, left, wrapperspb.String("pens"), &out)
		},
	} {
		if err := do(ctx); err != nil {
			t.Fatal(err)
		}
		md := w.last(t, name)
		for key, want := range map[string]string{"traceparent": parent, "tracestate": "a=1", "baggage": "user=7", "outrigger-hops": "3"} {
			if !slices.Equal(md.Get(key), []string{want}) {
				t.Errorf("%s: %s is %q", name, key, md.Get(key))
			}
		}
		if len(md.Get("authorization")) > 0 || slices.Contains(md.Get("outrigger-service"), "me") {
			t.Errorf("%s: too much propagates: %v", name, md)
		}
	}

	// What the caller sets itself is not added to.
	own := metadata.AppendToOutgoingContext(ctx, "traceparent", "own")
	if _, err := c.Cache("").Exists(own, "a"); err != nil {
		t.Fatal(err)
	}
	if md := w.last(t, "/outrigger.cache.v1.Cache/Exists"); !slices.Equal(md.Get("traceparent"), []string{"own"}) || len(md.Get("baggage")) != 1 {
		t.Errorf("metadata %v", md)
	}
}

func TestInterceptorsPropagate(t *testing.T) {
	w := newWorld()
	f := start(t, w, "127.0.0.1:0")
	c := dial(t, client.WithAddress(f.target))
	plain, err := grpc.NewClient(f.target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	do := func(ctx context.Context) {
		t.Helper()
		for _, cc := range []grpc.ClientConnInterface{plain, c.API()} {
			if _, err := cachev1.NewCacheClient(cc).Exists(ctx, &cachev1.ExistsRequest{Key: "a"}); err != nil {
				t.Fatal(err)
			}
			md := w.last(t, "/outrigger.cache.v1.Cache/Exists")
			if !slices.Equal(md.Get("traceparent"), []string{parent}) || !slices.Equal(md.Get("outrigger-hops"), []string{"2"}) {
				t.Errorf("metadata %v", md)
			}
		}
	}
	ctx := incoming(t, "traceparent", parent, "outrigger-hops", "2")
	_, err = client.UnaryServerInterceptor()(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) { do(ctx); return true, nil })
	if err != nil {
		t.Error(err)
	}
	err = client.StreamServerInterceptor()(nil, contextStream{ctx: ctx}, nil, func(_ any, s grpc.ServerStream) error { do(s.Context()); return nil })
	if err != nil {
		t.Error(err)
	}
	served := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(within(t), http.MethodGet, "/", nil)
	r.Header.Set("Traceparent", parent)
	r.Header.Set("Outrigger-Hops", "2")
	r.Header.Set("Baggage", "a=\xff") // would fail the call
	client.PropagateHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { do(r.Context()); w.WriteHeader(http.StatusTeapot) })).ServeHTTP(served, r)
	if served.Code != http.StatusTeapot {
		t.Errorf("status %d", served.Code)
	}
}

type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s contextStream) Context() context.Context { return s.ctx }
