package http

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"mime"
	nethttp "net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/hint"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// What a request is refused with before it reaches a method.
const (
	ReasonUnknownPath components.Reason = "UNKNOWN_PATH"
	ReasonHTTPMethod  components.Reason = "HTTP_METHOD"
	ReasonContentType components.Reason = "CONTENT_TYPE"
)

const (
	typeJSON       = "application/json"
	typeProto      = "application/proto"
	typeStreamJSON = "application/connect+json"
	typeStreamBin  = "application/connect+proto"
	typeLines      = "application/x-ndjson"
)

// ServeHTTP answers one request; each refusal is JSON with a reason.
func (h *Handler) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	if h.leaving.Load() {
		w.Header().Set("Connection", "close")
	}
	ctx, err := h.admit(r)
	if err != nil {
		refuseUnread(w, r, 0, err)
		return
	}
	method, contentType, code, err := h.understand(r)
	if err != nil {
		refuseUnread(w, r, code, err)
		return
	}
	r = r.WithContext(ctx)
	r.Header.Set("Connect-Protocol-Version", "1") // without it plain JSON is taken for REST
	if method.IsStreamingClient() {
		h.duplex(w, r, method)
		return
	}
	wait := nethttp.NewResponseController(w)
	wait.SetReadDeadline(time.Now().Add(bodyTime)) // a connection that has no deadlines has none to keep
	body, leave, code, err := h.body(r, h.bodyLimit(contentType))
	wait.SetReadDeadline(time.Time{})
	defer leave()
	if err == nil && contentType == typeJSON && len(bytes.TrimSpace(body)) == 0 { // the transcoder would take it for no message at all
		err = api.Malformed("the body is empty: send {} for a request without fields")
	}
	if err != nil {
		writeError(w, code, err)
		return
	}
	r.Header.Set("Content-Type", contentType)
	if contentType == typeJSON && method.IsStreamingServer() {
		out := &lines{w: w, max: h.opts.MaxMessage}
		h.transcoder.ServeHTTP(out, enveloped(r, body))
		out.end()
		return
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	out := &plain{ResponseWriter: w, limit: h.opts.MaxMessage}
	h.transcoder.ServeHTTP(out, r)
	out.end()
}

// understand finds the method of a request that can be served; else code is the HTTP status of the error.
func (h *Handler) understand(r *nethttp.Request) (method protoreflect.MethodDescriptor, contentType string, code int, err error) {
	method, ok := h.methods[r.URL.Path]
	if !ok {
		how := "methods are called as POST /outrigger.cache.v1.Cache/Get with a JSON body"
		if meant := hint.Path(r.URL.Path, slices.Collect(maps.Keys(h.methods))); meant != "" {
			how = "did you mean " + meant + "?"
		}
		err = fmt.Errorf("%w: there is no %.200q here; %s", components.ErrNotFound, r.URL.Path, how)
		return nil, "", nethttp.StatusNotFound, components.WithReason(err, ReasonUnknownPath)
	}
	if r.Method != nethttp.MethodPost {
		err = fmt.Errorf("%w: methods are called with POST, not %.20q", components.ErrUnsupported, r.Method)
		return nil, "", nethttp.StatusMethodNotAllowed, components.WithReason(err, ReasonHTTPMethod)
	}
	if limit := r.Header.Get("Connect-Timeout-Ms"); limit != "" {
		if _, err := strconv.ParseUint(limit, 10, 31); err != nil {
			err = fmt.Errorf("%w: connect-timeout-ms is %.20q, not a number of milliseconds", components.ErrInvalid, limit)
			return nil, "", nethttp.StatusBadRequest, components.WithReason(err, api.ReasonMalformed)
		}
	}
	contentType, params, parseErr := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if parseErr == nil && (charset == "" || strings.EqualFold(charset, "utf-8")) && accepts(method, contentType) {
		return method, contentType, 0, nil
	}
	err = fmt.Errorf("%w: content-type %.100q is not served for this method: send %s", components.ErrInvalid, r.Header.Get("Content-Type"), typeJSON)
	return nil, "", nethttp.StatusUnsupportedMediaType, components.WithReason(err, ReasonContentType)
}

func accepts(m protoreflect.MethodDescriptor, contentType string) bool {
	switch contentType {
	case typeJSON:
		return true
	case typeLines:
		return m.IsStreamingClient()
	case typeProto:
		return !m.IsStreamingClient() && !m.IsStreamingServer()
	case typeStreamJSON, typeStreamBin: // for both directions at once these want HTTP/2
		return !m.IsStreamingClient() && m.IsStreamingServer()
	}
	return false
}
