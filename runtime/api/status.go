package api

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain is the one that each google.rpc.ErrorInfo of the sidecar's own bears.
const Domain = "outrigger"

// Reasons of errors that have none of their own.
const (
	ReasonKeyNotFound     components.Reason = "KEY_NOT_FOUND"
	ReasonKeyExists       components.Reason = "KEY_EXISTS"
	ReasonVersionMismatch components.Reason = "VERSION_MISMATCH"
	ReasonRolledBack      components.Reason = "ROLLED_BACK"
	ReasonInvalidArgument components.Reason = "INVALID_ARGUMENT"
	ReasonPrecondition    components.Reason = "PRECONDITION_FAILED"
	ReasonNotSupported    components.Reason = "NOT_SUPPORTED"
	ReasonExhausted       components.Reason = "EXHAUSTED"
	ReasonDenied          components.Reason = "DENIED"
	ReasonUnauthenticated components.Reason = "UNAUTHENTICATED"
	ReasonUnavailable     components.Reason = "UNAVAILABLE"
	ReasonDataLoss        components.Reason = "DATA_LOSS"
	ReasonTimeout         components.Reason = "TIMEOUT"
	ReasonCancelled       components.Reason = "CANCELLED"
	ReasonInternal        components.Reason = "INTERNAL"
)

// kinds is the one table from errors to codes; the first that matches counts. A driver's own timeout is wrapped in
// ErrUnavailable, so context errors come last; Guard asks for the caller's own deadline before.
var kinds = []struct {
	kind   error
	code   codes.Code
	reason components.Reason
}{
	{components.ErrNotFound, codes.NotFound, ReasonKeyNotFound},
	{components.ErrExists, codes.AlreadyExists, ReasonKeyExists},
	{components.ErrConflict, codes.Aborted, ReasonVersionMismatch},
	{components.ErrAborted, codes.Aborted, ReasonRolledBack},
	{components.ErrInvalid, codes.InvalidArgument, ReasonInvalidArgument},
	{components.ErrPrecondition, codes.FailedPrecondition, ReasonPrecondition},
	{components.ErrUnsupported, codes.Unimplemented, ReasonNotSupported},
	{components.ErrExhausted, codes.ResourceExhausted, ReasonExhausted},
	{components.ErrDenied, codes.PermissionDenied, ReasonDenied},
	{components.ErrUnauthenticated, codes.Unauthenticated, ReasonUnauthenticated},
	{components.ErrUnavailable, codes.Unavailable, ReasonUnavailable},
	{components.ErrDamaged, codes.DataLoss, ReasonDataLoss},
	{context.DeadlineExceeded, codes.DeadlineExceeded, ReasonTimeout},
	{context.Canceled, codes.Canceled, ReasonCancelled},
}

// What a status may hold: it travels in a header list, which has a limit of 16 KiB on most clients, twice and as base64.
const (
	maxMessage = 1 << 10
	maxValue   = 256
)

// retryAfter is what a client is told that may retry, when the error does not say better.
const retryAfter = 100 * time.Millisecond

// Status is what the caller is told of err, which is not nil. An error that is a gRPC status itself passes unchanged; one
// that merely wraps another server's does not. What is of no kind is INTERNAL, and its text is not for the caller.
func Status(err error) *status.Status {
	if isStatus(err) {
		return status.Convert(err)
	}
	return answerOf(err).st
}

// Code is that of Status, without making one.
func Code(err error) codes.Code {
	if isStatus(err) {
		return status.Code(err)
	}
	code, _ := classify(err)
	return code
}

func isStatus(err error) bool {
	_, ok := err.(interface{ GRPCStatus() *status.Status })
	return ok
}

// answer is an error as it is sent, by either engine.
type answer struct {
	st   *status.Status
	wire *grpcproxy.Status
}

func (a *answer) Error() string                  { return a.st.String() }
func (a *answer) GRPCStatus() *status.Status     { return a.st }
func (a *answer) RelayStatus() *grpcproxy.Status { return a.wire }

func answerOf(err error) *answer {
	if d, ok := err.(*components.Detail); ok {
		return d.Encoded(encode).(*answer)
	}
	return newAnswer(err)
}

func encode(d *components.Detail) any { return newAnswer(d) }

func newAnswer(err error) *answer {
	code, reason := classify(err)
	message := err.Error()
	if code == codes.Internal {
		message = "internal error: the sidecar's log has it"
	}
	st := build(code, message, reason, err)
	return &answer{st, fastgrpc.Status(st.Err())}
}

// Failure is what the caller is told of one item of a call about many; nil of a nil error.
func Failure(err error) *commonv1.Failure {
	if err == nil {
		return nil
	}
	s := Status(err)
	f := &commonv1.Failure{Code: int32(s.Code()), Message: s.Message()}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			f.Reason = info.GetReason()
		}
	}
	return f
}

func classify(err error) (codes.Code, components.Reason) {
	for i := range kinds {
		if errors.Is(err, kinds[i].kind) {
			return kinds[i].code, kinds[i].reason
		}
	}
	return codes.Internal, ReasonInternal
}

// build adds to code and message what err has in detail.
func build(code codes.Code, message string, reason components.Reason, err error) *status.Status {
	d := new(components.Detail)
	errors.As(err, &d)
	if d.Reason != "" {
		reason = d.Reason
	}
	info := &errdetails.ErrorInfo{Reason: string(reason), Domain: Domain}
	if len(d.Metadata) > 0 {
		info.Metadata = make(map[string]string, len(d.Metadata))
		for k, v := range d.Metadata {
			info.Metadata[k] = clip(v, maxValue)
		}
	}
	details := []protoadapt.MessageV1{info}
	after := d.RetryAfter
	if after == 0 && code == codes.Unavailable {
		after = retryAfter
	}
	if after > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	s := status.New(code, clip(message, maxMessage))
	with, err := s.WithDetails(details...)
	if err != nil { // a reason that is not UTF-8: the code is worth more than it
		return s
	}
	return with
}

// clip bounds a text and makes it valid UTF-8, without which a status cannot be marshalled.
func clip(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit-len("...")] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
