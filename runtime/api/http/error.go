package http

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	nethttp "net/http"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/api"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// wireError is an error as the Connect protocol writes it. Debug is what people read.
type wireError struct {
	Code    string       `json:"code"`
	Message string       `json:"message,omitempty"`
	Details []wireDetail `json:"details,omitempty"`
}

type wireDetail struct {
	Type  string          `json:"type"`
	Value string          `json:"value"`
	Debug json.RawMessage `json:"debug,omitempty"`
}

// writeError answers err. code is the HTTP status; 0: the one that belongs to the error.
func writeError(w nethttp.ResponseWriter, code int, err error) {
	st := api.Status(err)
	if code == 0 {
		code = httpStatus(codeName(st.Code()))
	}
	if code == nethttp.StatusMethodNotAllowed {
		w.Header().Set("Allow", nethttp.MethodPost)
	}
	if code == nethttp.StatusUnauthorized {
		w.Header().Set("Www-Authenticate", "Bearer")
	}
	text, err := json.Marshal(wire(st))
	if err != nil { // it cannot be: all of it is text
		text = []byte(`{"code":"internal"}`)
	}
	writeJSON(w, code, text)
}

// refuseUnread answers err to a request whose body was not read. One without a length may be a stream that its client ends when it has
// been answered: the server would wait for that, unless the connection ends with the answer.
func refuseUnread(w nethttp.ResponseWriter, r *nethttp.Request, code int, err error) {
	if r.ContentLength < 0 {
		endsHere(w)
		nethttp.NewResponseController(w).SetReadDeadline(time.Now().Add(unreadTime))
	}
	writeError(w, code, err)
}

// endsHere makes an answer the last one of its connection: what its client has still to send of the body is no request.
func endsHere(w nethttp.ResponseWriter) { w.Header().Set("Connection", "close") }

func writeJSON(w nethttp.ResponseWriter, code int, text []byte) {
	header := w.Header()
	header.Del("Content-Length")
	header.Del("Content-Encoding")
	header.Set("Content-Type", typeJSON)
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	w.Write(append(bytes.TrimSpace(text), '\n'))
}

func wire(st *status.Status) wireError {
	e := wireError{Code: codeName(st.Code()), Message: st.Message()}
	for _, any := range st.Proto().GetDetails() {
		e.Details = append(e.Details, detail(any))
	}
	return e
}

func codeName(c codes.Code) string { return connect.Code(c).String() }

func detail(a *anypb.Any) wireDetail {
	d := wireDetail{Type: strings.TrimPrefix(a.GetTypeUrl(), "type.googleapis.com/"), Value: base64.RawStdEncoding.EncodeToString(a.GetValue())}
	if m, err := a.UnmarshalNew(); err == nil {
		d.Debug, _ = protojson.Marshal(m) // for people only
	}
	return d
}

// httpStatus is the status that the Connect protocol gives a code.
func httpStatus(code string) int {
	if s, ok := httpStatuses[code]; ok {
		return s
	}
	return nethttp.StatusInternalServerError
}

var httpStatuses = map[string]int{
	"canceled":            499, // what proxies log for a client that is gone
	"invalid_argument":    nethttp.StatusBadRequest,
	"deadline_exceeded":   nethttp.StatusGatewayTimeout,
	"not_found":           nethttp.StatusNotFound,
	"already_exists":      nethttp.StatusConflict,
	"permission_denied":   nethttp.StatusForbidden,
	"resource_exhausted":  nethttp.StatusTooManyRequests,
	"failed_precondition": nethttp.StatusBadRequest,
	"aborted":             nethttp.StatusConflict,
	"out_of_range":        nethttp.StatusBadRequest,
	"unimplemented":       nethttp.StatusNotImplemented,
	"unavailable":         nethttp.StatusServiceUnavailable,
	"unauthenticated":     nethttp.StatusUnauthorized,
}
