package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func TestErrorKinds(t *testing.T) {
	w := newWorld()
	c := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target))
	kinds := []error{client.ErrNotFound, client.ErrNoComponent, client.ErrExists, client.ErrVersionMismatch, client.ErrInvalid,
		client.ErrPrecondition, client.ErrUnsupported, client.ErrExhausted, client.ErrDenied, client.ErrUnauthenticated,
		client.ErrUnavailable, client.ErrDamaged, context.Canceled, context.DeadlineExceeded, client.ErrClosed, client.ErrNoSidecar}
	for _, test := range []struct {
		code   codes.Code
		reason string
		want   error
	}{
		{codes.NotFound, "KEY_NOT_FOUND", client.ErrNotFound},
		{codes.NotFound, "SERVICE_NOT_FOUND", client.ErrNotFound},
		{codes.NotFound, "COMPONENT_NOT_FOUND", client.ErrNoComponent},
		{codes.AlreadyExists, "KEY_EXISTS", client.ErrExists},
		{codes.Aborted, "VERSION_MISMATCH", client.ErrVersionMismatch},
		{codes.Aborted, "TX_BRANCH_FAILED", nil},
		{codes.InvalidArgument, "KEY_INVALID", client.ErrInvalid},
		{codes.FailedPrecondition, "STALE_FENCE", client.ErrPrecondition},
		{codes.Unimplemented, "UNSUPPORTED", client.ErrUnsupported},
		{codes.PermissionDenied, "DENIED", client.ErrDenied},
		{codes.Unauthenticated, "UNAUTHENTICATED", client.ErrUnauthenticated},
		{codes.DataLoss, "DAMAGED", client.ErrDamaged},
		{codes.Internal, "INTERNAL", nil},
	} {
		w.mu.Lock()
		w.fail = problem(test.code, test.reason, "no")
		w.mu.Unlock()
		_, err := c.Cache("").Get(within(t), "fail")
		if client.Reason(err) != test.reason {
			t.Errorf("reason %q, want %q (%v)", client.Reason(err), test.reason, err)
		}
		if s, ok := status.FromError(err); !ok || s.Code() != test.code {
			t.Errorf("status of %v: %v", err, s)
		}
		for _, kind := range kinds {
			if errors.Is(err, kind) != (kind == test.want) {
				t.Errorf("%v is %v: %v", err, kind, errors.Is(err, kind))
			}
		}
	}
}

func TestErrorDetails(t *testing.T) {
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target))
	_, err := c.Invoke(within(t), "stock", "fail", nil)
	after, said := client.RetryAfter(err)
	if !errors.Is(err, client.ErrExhausted) || client.Reason(err) != "OVERLOADED" || after != 2*time.Second || !said || client.Origin(err) != client.OriginPeer {
		t.Errorf("%v: reason %q, retry %v, origin %q", err, client.Reason(err), after, client.Origin(err))
	}
	if err.Error() != "stock has enough to do (OVERLOADED)" {
		t.Errorf("text %q", err)
	}
	if wrapped := fmt.Errorf("order: %w", err); client.Reason(wrapped) != "OVERLOADED" || client.Origin(wrapped) != "peer" || status.Code(wrapped) != codes.ResourceExhausted {
		t.Errorf("wrapped: %v", wrapped)
	}
	foreign, err := status.New(codes.Aborted, "x").WithDetails(&errdetails.ErrorInfo{Reason: "VERSION_MISMATCH", Domain: "stock.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []error{nil, errors.New("x"), status.Error(codes.NotFound, "x"), foreign.Err()} {
		if _, said := client.RetryAfter(other); client.Reason(other) != "" || client.Origin(other) != "" || said {
			t.Errorf("%v has details", other)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Cache("").Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := c.Cache("").Get(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("expired: %v", err)
	}
}

func TestClosed(t *testing.T) {
	w := newWorld()
	w.hang = make(chan struct{})
	f := start(t, w, "127.0.0.1:0")
	t.Cleanup(func() { close(w.hang) }) // before the server stops, which waits
	c := dial(t, client.WithAddress(f.target))
	ends := make(chan error, 2)
	go func() {
		_, err := c.Cache("").Get(context.Background(), "hang")
		ends <- err
	}()
	reading := make(chan struct{})
	go func() {
		for _, err := range c.Config("").Watch(context.Background(), "a") {
			if err != nil {
				ends <- err
				break
			}
			close(reading)
		}
	}()
	<-reading
	waitFor(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, call := range w.calls {
			if strings.HasSuffix(call.method, "Cache/Get") {
				return true
			}
		}
		return false
	})
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-ends; !errors.Is(err, client.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	}
	if _, err := c.Cache("").Get(within(t), "a"); !errors.Is(err, client.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
	if err := c.Wait(within(t)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("wait: %v", err)
	}
}

// waitFor polls until ok, for as long as only a hang lasts.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to pass")
		}
	}
}
