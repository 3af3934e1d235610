package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
)

// The kinds of errors, for errors.Is. An error is of one kind at most; one that comes from the called application, see
// Origin, has a kind as well.
var (
	ErrNotFound        = errors.New("not found")         // the key or service is absent
	ErrNoComponent     = errors.New("no such component") // not ErrNotFound: a typing error must not look like an absent key
	ErrExists          = errors.New("exists already")
	ErrVersionMismatch = errors.New("version mismatch")
	ErrInvalid         = errors.New("invalid argument")
	ErrPrecondition    = errors.New("precondition failed")
	ErrUnsupported     = errors.New("not supported")
	ErrExhausted       = errors.New("exhausted") // too large, full or overloaded
	ErrDenied          = errors.New("permission denied")
	ErrUnauthenticated = errors.New("unauthenticated")
	ErrUnavailable     = errors.New("unavailable") // the kind that is worth a retry
	ErrDamaged         = errors.New("data damaged")

	// ErrNoSidecar is what Dial fails with when no sidecar answers.
	ErrNoSidecar = errors.New("no sidecar found")
	// ErrClosed is what calls fail with after Close.
	ErrClosed = errors.New("the client is closed")
)

// Reasons that the SDK itself gives; docs/errors.md explains them, and those of the sidecar.
const (
	ReasonSidecarUnavailable = "SIDECAR_UNAVAILABLE" // the sidecar is away: the call was not sent
	ReasonSidecarLost        = "SIDECAR_LOST"        // the sidecar went away during the call: it may have happened
)

// What Origin answers.
const (
	OriginApp     = "app"     // the called application
	OriginSidecar = "sidecar" // the caller's own sidecar
	OriginPeer    = "peer"    // the called application's sidecar
)

// The names of metadata, and the domain of reasons, that the API fixes.
const (
	domain          = "outrigger"
	originTrailer   = "outrigger-origin"
	serviceMetadata = "outrigger-service"
	tokenMetadata   = "outrigger-token"
	hopsMetadata    = "outrigger-hops"
	appMetadata     = "outrigger-app"   // in the answer to a health check: NAMESPACE/APP that the sidecar belongs to
	adminMetadata   = "outrigger-admin" // in the same: HOST:PORT of the admin pages
)

// Reason is why a call failed, such as "KEY_NOT_FOUND", or "" if the error has no reason of Outrigger's.
func Reason(err error) string {
	if e := (*callError)(nil); errors.As(err, &e) {
		return e.reason
	}
	if info, _ := details(err); info != nil {
		return info.GetReason()
	}
	return ""
}

// RetryAfter is when a repeated call may succeed; false if the error does not say.
func RetryAfter(err error) (time.Duration, bool) {
	_, retry := details(err)
	if retry.GetRetryDelay() == nil {
		return 0, false
	}
	return retry.GetRetryDelay().AsDuration(), true
}

// Origin is who made the error of a proxied call (OriginApp, OriginSidecar, OriginPeer), or "" where nobody said.
func Origin(err error) string {
	if e := (*callError)(nil); errors.As(err, &e) {
		return e.origin
	}
	return ""
}

func details(err error) (info *errdetails.ErrorInfo, retry *errdetails.RetryInfo) {
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == domain && info == nil {
				info = d
			}
		case *errdetails.RetryInfo:
			retry = d
		}
	}
	return info, retry
}

// callError is a gRPC status that errors.Is knows the kind of.
type callError struct {
	status *status.Status
	reason string
	origin string
	closed bool
}

func newError(s *status.Status) *callError {
	e := &callError{status: s}
	if info, _ := details(s.Err()); info != nil {
		e.reason = info.GetReason()
	}
	return e
}

// madeHere is an error that did not come over the wire; a reason that is empty is left out.
func madeHere(code codes.Code, reason, message string, retry time.Duration) *callError {
	s := status.New(code, message)
	var more []protoadapt.MessageV1
	if reason != "" {
		more = append(more, &errdetails.ErrorInfo{Reason: reason, Domain: domain})
	}
	if retry > 0 {
		more = append(more, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	}
	if with, err := s.WithDetails(more...); err == nil {
		s = with
	}
	return newError(s)
}

// failure is the error of one item of a call about many; nil is none.
func failure(f *commonv1.Failure) error {
	if f == nil {
		return nil
	}
	return madeHere(codes.Code(f.GetCode()), f.GetReason(), f.GetMessage(), 0)
}

func (e *callError) Error() string {
	text, more := e.status.Message(), e.reason
	if more == "" {
		more = e.status.Code().String()
	}
	if text == "" {
		return more
	}
	return text + " (" + more + ")"
}

// GRPCStatus lets status.FromError and status.Code see the original.
func (e *callError) GRPCStatus() *status.Status { return e.status }

func (e *callError) Is(target error) bool {
	if e.closed {
		return target == ErrClosed
	}
	return target == e.kind()
}

var kinds = map[codes.Code]error{
	codes.AlreadyExists:      ErrExists,
	codes.InvalidArgument:    ErrInvalid,
	codes.FailedPrecondition: ErrPrecondition,
	codes.Unimplemented:      ErrUnsupported,
	codes.ResourceExhausted:  ErrExhausted,
	codes.PermissionDenied:   ErrDenied,
	codes.Unauthenticated:    ErrUnauthenticated,
	codes.Unavailable:        ErrUnavailable,
	codes.DataLoss:           ErrDamaged,
	codes.DeadlineExceeded:   context.DeadlineExceeded,
	codes.Canceled:           context.Canceled,
}

func (e *callError) kind() error {
	switch code := e.status.Code(); code {
	case codes.NotFound:
		if e.reason == "COMPONENT_NOT_FOUND" {
			return ErrNoComponent
		}
		return ErrNotFound
	case codes.Aborted:
		// A bare ABORTED says nothing of versions.
		if e.reason == "VERSION_MISMATCH" {
			return ErrVersionMismatch
		}
		return nil
	default:
		return kinds[code]
	}
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
