package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func TestStatusOfEachKind(t *testing.T) {
	for _, c := range []struct {
		kind   error
		code   codes.Code
		reason components.Reason
	}{
		{components.ErrNotFound, codes.NotFound, "KEY_NOT_FOUND"},
		{components.ErrExists, codes.AlreadyExists, "KEY_EXISTS"},
		{components.ErrConflict, codes.Aborted, "VERSION_MISMATCH"},
		{components.ErrInvalid, codes.InvalidArgument, "INVALID_ARGUMENT"},
		{components.ErrPrecondition, codes.FailedPrecondition, "PRECONDITION_FAILED"},
		{components.ErrUnsupported, codes.Unimplemented, "NOT_SUPPORTED"},
		{components.ErrExhausted, codes.ResourceExhausted, "EXHAUSTED"},
		{components.ErrDenied, codes.PermissionDenied, "DENIED"},
		{components.ErrUnauthenticated, codes.Unauthenticated, "UNAUTHENTICATED"},
		{components.ErrUnavailable, codes.Unavailable, "UNAVAILABLE"},
		{components.ErrDamaged, codes.DataLoss, "DATA_LOSS"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "TIMEOUT"},
		{context.Canceled, codes.Canceled, "CANCELLED"},
		{errors.New("anything else"), codes.Internal, "INTERNAL"},
	} {
		wrapped := fmt.Errorf("cache %q: get: %w", "default", c.kind)
		st := api.Status(wrapped)
		info, _ := details(st)
		if st.Code() != c.code || info.GetReason() != string(c.reason) || info.GetDomain() != "outrigger" {
			t.Errorf("%v: %v, %v", c.kind, st, info)
		}
		if c.code == codes.Internal == strings.Contains(st.Message(), wrapped.Error()) {
			t.Errorf("%v: text %q", c.kind, st.Message())
		}
		if f := api.Failure(wrapped); f.GetCode() != int32(c.code) || f.GetReason() != string(c.reason) || f.GetMessage() != st.Message() {
			t.Errorf("%v: failure %v", c.kind, f)
		}
	}
	if api.Failure(nil) != nil {
		t.Error("a failure of no error")
	}
}

func TestStatusOfADetail(t *testing.T) {
	st := api.Status(&components.Detail{Err: components.ErrExhausted, Reason: "FULL", Metadata: map[string]string{"limit": "x"}, RetryAfter: time.Second})
	info, retry := details(st)
	if info.GetReason() != "FULL" || info.GetMetadata()["limit"] != "x" || retry.GetRetryDelay().AsDuration() != time.Second {
		t.Error(st.Details())
	}
	if _, retry = details(api.Status(components.ErrUnavailable)); retry.GetRetryDelay().AsDuration() <= 0 {
		t.Error("what is worth a retry does not say when")
	}
	if _, retry = details(api.Status(components.ErrConflict)); retry != nil {
		t.Error("a retry of the same call is advised where it cannot help")
	}
}

func TestStatusPassesUnchanged(t *testing.T) {
	of, err := status.New(codes.Internal, "the application's").WithDetails(&errdetails.ErrorInfo{Reason: "THEIRS", Domain: "app"})
	if err != nil {
		t.Fatal(err)
	}
	if got := api.Status(of.Err()); !proto.Equal(got.Proto(), of.Proto()) {
		t.Error(got)
	}
	// A back end's status is not the sidecar's: the kind that the driver gave it is.
	if got := api.Status(fmt.Errorf("put: %w: %w", components.ErrUnavailable, of.Err())); got.Code() != codes.Unavailable {
		t.Error(got)
	}
}

func TestStatusFitsAHeaderList(t *testing.T) {
	huge := strings.Repeat("k\xff", 1<<20)
	st := api.Status(&components.Detail{Err: fmt.Errorf("%w: %s", components.ErrInvalid, huge), Metadata: map[string]string{"component": huge}})
	wire, err := proto.Marshal(st.Proto())
	if err != nil {
		t.Fatal("an error in the caller's own bytes cannot be sent:", err)
	}
	if info, _ := details(st); len(wire) > 4<<10 || info.GetReason() != "INVALID_ARGUMENT" {
		t.Error(len(wire), info.GetReason())
	}
}

func details(st *status.Status) (info *errdetails.ErrorInfo, retry *errdetails.RetryInfo) {
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.RetryInfo:
			retry = d
		}
	}
	return info, retry
}

// A deadline that passes before a method is called has its reason as well.
func TestEngineDeadline(t *testing.T) {
	err := api.FromEngine(codes.DeadlineExceeded, "context deadline exceeded", "api", 1)
	if err == nil {
		t.Fatal("not taken for the engine's own")
	}
	st := api.Status(err)
	if info, ok := st.Details()[0].(*errdetails.ErrorInfo); st.Code() != codes.DeadlineExceeded || !ok || info.GetReason() != "TIMEOUT" {
		t.Errorf("%v %v", st, st.Details())
	}
}
