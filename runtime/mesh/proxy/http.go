package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/httpproxy"
)

// HeaderReason is, in an answer of a sidecar's own, the reason that is in its body, too. HTTP alone has it.
const HeaderReason = "outrigger-reason"

// The same headers as bytes, which a head of HTTP is made of.
var (
	fieldService = []byte(HeaderService)
	fieldHops    = []byte(HeaderHops)
	fieldSource  = []byte(HeaderSource)
	fieldOrigin  = []byte(HeaderOrigin)
	fieldReason  = []byte(HeaderReason)

	valueApp  = []byte("app")
	valuePeer = []byte("peer")
)

// httpCall is a request of HTTP between Route and Done.
type httpCall struct {
	Record
	plan     mesh.Plan
	to       mesh.Attempt // the attempt that is not reported yet; nil: there is none
	hops     int          // sidecars passed before this one
	admitted bool         // the gate must hear of the end
	self     bool         // the application calls itself, which is counted
	through  bool         // it goes where it says, past the mesh
	dead     bool         // the instance's sidecar says that its application cannot be reached, or does not serve this
	lost     bool         // or that it has broken off, or answered what is no HTTP
	room     [96]byte     // of the values of headers

	request mesh.Request // room for what is asked about
	head    *httpproxy.Head
	header  func(name string) string // request's
}

// calls are used for one request after the other: one is more than half a KiB.
var calls = sync.Pool{New: func() any {
	c := &httpCall{}
	c.header = func(name string) string { return string(c.head.Get(name)) }
	return c
}}

// newHTTPCall makes the call of a request; finish ends it.
func newHTTPCall(h *httpproxy.Head, direction, source string) *httpCall {
	c := calls.Get().(*httpCall)
	*c = httpCall{Record: Record{Direction: direction, Protocol: mesh.HTTP, Method: httpMethod(h, c.Method), Source: source, Start: h.Start}, head: h, header: c.header}
	h.Tag = c
	return c
}

// unread tells the monitor of a request that was refused before it could be read.
func unread(direction string, o *httpproxy.Outcome, m Monitor) {
	c := calls.Get().(*httpCall)
	*c = httpCall{Record: Record{Direction: direction, Protocol: mesh.HTTP, Method: o.Method, Start: o.Start}, header: c.header}
	m.Begin(&c.Record)
	c.finish(o, m)
}

// asked is the request as the mesh's decisions see it.
func (c *httpCall) asked(from components.Caller) *mesh.Request {
	c.request = mesh.Request{Protocol: c.Protocol, Service: c.Service, Method: c.Method, Source: from, Hops: c.hops, Header: c.header}
	return &c.request
}

// report ends the attempt that is under way, if there is one.
func (c *httpCall) report(o mesh.Outcome) {
	if c.to != nil {
		c.to.Report(o)
		c.to = nil
	}
}

// trace hands the request's trace context to the monitor and sends on what it made of it.
func (c *httpCall) trace(h *httpproxy.Head, m Monitor) {
	parent, state := string(h.Get("traceparent")), httpState(h)
	c.Traceparent, c.Tracestate = parent, state
	m.Begin(&c.Record)
	for _, f := range [...]struct{ name, came, now string }{{"traceparent", parent, c.Traceparent}, {"tracestate", state, c.Tracestate}} {
		switch {
		case f.now == f.came:
		case f.now == "":
			h.Del(f.name)
		default:
			h.Set(f.name, f.now)
		}
	}
}

// httpState is the request's tracestate: several fields of that name are one list.
func httpState(h *httpproxy.Head) string {
	var all []string
	for _, f := range h.Fields {
		if len(f.Name) == len("tracestate") && len(f.Value) > 0 && strings.EqualFold(string(f.Name), "tracestate") {
			all = append(all, string(f.Value))
		}
	}
	return strings.Join(all, ",")
}

// httpHops reads how many sidecars a request has passed. See hops.go.
func httpHops(h *httpproxy.Head) int {
	hops := parseHops(string(h.Get(HeaderHops)))
	if parent := h.Get("traceparent"); parent == nil || !traced(string(parent)) {
		return hops
	}
	return max(hops, stateHops(httpState(h)))
}

func setHTTPStateHops(h *httpproxy.Head, traceparent string, hops int) {
	if !traced(traceparent) {
		return
	}
	if state, ok := withHops(httpState(h), hops); ok {
		h.Set("tracestate", state)
	}
}

const maxMethod = 256 // bytes of it that are told of

// httpMethod is the method and the path, without what follows a question mark, which may be private. last is the one of another request, which
// is often the same.
func httpMethod(h *httpproxy.Head, last string) string {
	path := h.Target
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	path = path[:min(len(path), maxMethod)]
	if at := len(h.Method) + 1; len(last) == at+len(path) && last[:at-1] == h.Method && last[at:] == string(path) {
		return last
	}
	return h.Method + " " + string(path)
}

// finish tells the monitor how the request ended. The call is another request's then.
func (c *httpCall) finish(o *httpproxy.Outcome, m Monitor) {
	c.Attempts, c.Flag = o.Attempts, o.Flag
	if c.Flag == "" && o.Err != nil && !o.ByClient {
		c.Flag = httpproxy.FlagClosed
	}
	if e := (*httpproxy.Error)(nil); errors.As(o.Err, &e) && e.Reason == string(mesh.ReasonBreaker) {
		c.Flag = mesh.FlagBreaker
	}
	if c.Code = int(codeOf(o.Status)); o.Status == 0 {
		c.Code = int(codes.Canceled)
	} else {
		c.Status = statusText(o.Status)
	}
	c.Sent, c.Received, c.Duration = o.Sent, o.Received, o.Duration
	m.End(&c.Record)
	calls.Put(c)
}

// statusText names what is answered most without making a string.
func statusText(status int) string {
	if status == http.StatusOK {
		return "200"
	}
	return strconv.Itoa(status)
}

// codeOf is the gRPC status that says most nearly what a status of HTTP does.
func codeOf(status int) codes.Code {
	switch status {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusConflict:
		return codes.Aborted
	case http.StatusPreconditionFailed:
		return codes.FailedPrecondition
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusInternalServerError:
		return codes.Internal
	case http.StatusNotImplemented:
		return codes.Unimplemented
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	}
	if status < http.StatusBadRequest {
		return codes.OK
	}
	return codes.Unknown
}

// statusOf is the other way round, for errors of the sidecar's own.
var statusOf = map[int]int{
	int(codes.InvalidArgument): http.StatusBadRequest, int(codes.NotFound): http.StatusNotFound, int(codes.AlreadyExists): http.StatusConflict,
	int(codes.Aborted): http.StatusConflict, int(codes.FailedPrecondition): http.StatusPreconditionFailed,
	int(codes.ResourceExhausted): http.StatusTooManyRequests, int(codes.PermissionDenied): http.StatusForbidden,
	int(codes.Unauthenticated): http.StatusUnauthorized, int(codes.Unimplemented): http.StatusNotImplemented,
	int(codes.Unavailable): http.StatusServiceUnavailable, int(codes.DeadlineExceeded): http.StatusGatewayTimeout,
}

// httpError is what a client of HTTP is told of err.
func httpError(err error) *httpproxy.Error {
	e := api.RelayError(err)
	out := &httpproxy.Error{Status: statusOf[e.Code], Reason: e.Reason, Text: e.Message, Metadata: e.Metadata, RetryAfter: e.RetryDelay}
	switch components.Reason(e.Reason) {
	case mesh.ReasonNoService:
		out.Status = http.StatusNotFound
	case mesh.ReasonTooManyHops:
		out.Status = http.StatusLoopDetected
	}
	if out.Status == 0 {
		out.Status = http.StatusInternalServerError
	}
	return out
}

// httpAnswer adds to an answer of the sidecar's own who it is from, why, and which service it is about.
func httpAnswer(h *httpproxy.Head, e *httpproxy.Error) (lines string) {
	if c, ok := h.Tag.(*httpCall); ok && c.Service.Name != "" {
		metadata := map[string]string{"service": c.Service.String()}
		for k, v := range e.Metadata {
			metadata[k] = v
		}
		e.Metadata = metadata
		if _, upstream := e.Metadata["instance"]; upstream {
			e.Text = fmt.Sprintf("%s: %s", c.Service, e.Text)
		}
	}
	return HeaderOrigin + ": sidecar\r\n" + HeaderReason + ": " + e.Reason + "\r\n"
}

// httpKinds are the failures of the relay as the engine knows them.
var httpKinds = map[string]mesh.FailureKind{httpproxy.FlagConnectFailed: mesh.Connect, httpproxy.FlagClosed: mesh.Closed,
	httpproxy.FlagReset: mesh.Reset, httpproxy.FlagTimeout: mesh.Timeout, httpproxy.FlagStatus: mesh.Status, httpproxy.FlagProtocol: mesh.Closed,
	httpproxy.FlagLimited: mesh.Refused}

// judge reads from an answer what its sidecar says of the instance's application: that it cannot be reached or does not serve what it is called
// for, when nothing of the request was sent to it, or that it has not answered to the end.
func (c *httpCall) judge(h *httpproxy.Head) {
	c.dead, c.lost = false, false
	if c.to != nil && !c.to.Instance().Direct && string(h.Get(HeaderOrigin)) == "sidecar" {
		reason := string(h.Get(HeaderReason))
		c.dead, c.lost = reason == httpproxy.ReasonConnect || reason == string(mesh.ReasonNotForThisApp), reason == httpproxy.ReasonLost || reason == httpproxy.ReasonAnswer
	}
}
