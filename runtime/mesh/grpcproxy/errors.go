package grpcproxy

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Error is an answer of the relay's own, and what Route and OnConn return to make one. The client gets it as a gRPC
// status; with a Reason it carries a google.rpc.ErrorInfo of the domain "outrigger", with a RetryDelay a RetryInfo.
type Error struct {
	Code       int // a gRPC status code
	Message    string
	Reason     string            // UPPER_SNAKE
	Metadata   map[string]string // of the ErrorInfo
	RetryDelay time.Duration     // 0: none is told
	Flag       string            // of the Outcome; empty: what fits the place it comes from
	Answered   bool              // the upstream's answer had begun
}

// Reasons of the relay's own answers.
const (
	ReasonNoRoute        = "NO_ROUTE"
	ReasonConnectFailed  = "CONNECT_FAILED"
	ReasonConnectionLost = "CONNECTION_LOST"
	ReasonUpstreamClosed = "UPSTREAM_CLOSED"
	ReasonTimeout        = "TIMEOUT"
	ReasonOverloaded     = "OVERLOADED"
	ReasonHeadersTooBig  = "HEADERS_TOO_LARGE"
	ReasonTooLarge       = "MESSAGE_TOO_LARGE"
	ReasonSlowReader     = "SLOW_READER"
	ReasonMalformed      = "MALFORMED"
	ReasonInternal       = "INTERNAL"
	ReasonDenied         = "ACCESS_DENIED"
)

const (
	errorDomain  = "outrigger"
	originHeader = "outrigger-origin"
)

func (e *Error) Error() string { return "grpc status " + strconv.Itoa(e.Code) + ": " + e.Message }

const ( // gRPC status codes
	grpcDeadline    = 4
	grpcDenied      = 7
	grpcExhausted   = 8
	grpcInternal    = 13
	grpcUnavailable = 14
)

func fault(flag string, code int, reason, msg string) *Error {
	return &Error{Code: code, Message: msg, Reason: reason, Flag: flag}
}

// asError makes an answer of an error that a hook returned; what is not an *Error gets code and reason.
func asError(err error, flag string, code int, reason string) *Error {
	var e *Error
	if !errors.As(err, &e) {
		return fault(flag, code, reason, err.Error())
	}
	if e.Flag != "" {
		return e
	}
	own := *e // the hook's may be shared
	own.Flag = flag
	return &own
}

// trailer appends the fields of the status.
func (e *Error) trailer(f []Field, origin string) []Field {
	f = append(f, newField("grpc-status", strconv.Itoa(e.Code)), newField("grpc-message", percentEncode(e.Message)))
	if d := e.details(); d != nil {
		f = append(f, newField("grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(d)))
	}
	return append(f, newField(originHeader, origin))
}

func (e *Error) details() []byte {
	st := &rpcstatus.Status{Code: int32(e.Code), Message: strings.ToValidUTF8(e.Message, "?")}
	add := func(m proto.Message) {
		if a, err := anypb.New(m); err == nil {
			st.Details = append(st.Details, a)
		}
	}
	if e.Reason != "" {
		add(&errdetails.ErrorInfo{Reason: e.Reason, Domain: errorDomain, Metadata: e.Metadata})
	}
	if e.RetryDelay > 0 {
		add(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryDelay)})
	}
	if len(st.Details) == 0 {
		return nil
	}
	b, err := proto.Marshal(st)
	if err != nil {
		return nil
	}
	return b
}

// ErrorReason is that of the ErrorInfo in the status that h ends with, if it is one of ours; "": there is none.
func (h *Headers) ErrorReason() string {
	text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(h.Get("grpc-status-details-bin"), "="))
	st := &rpcstatus.Status{}
	if err != nil || proto.Unmarshal(text, st) != nil {
		return ""
	}
	for _, d := range st.Details {
		if info := (&errdetails.ErrorInfo{}); d.MessageIs(info) && d.UnmarshalTo(info) == nil && info.Domain == errorDomain {
			return info.Reason
		}
	}
	return ""
}

// percentEncode is the form of grpc-message.
func percentEncode(s string) string {
	escaped := func(r rune) bool { return r < ' ' || r > '~' || r == '%' }
	if !strings.ContainsFunc(s, escaped) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; escaped(rune(c)) {
			const hex = "0123456789ABCDEF"
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
