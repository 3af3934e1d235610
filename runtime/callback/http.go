package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
)

func (a *App) invokeHTTP(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error) {
	req, err := a.request(ctx, in, md)
	if err != nil {
		return nil, err
	}
	res, err := a.client.Do(req)
	if err != nil {
		return nil, a.unreachable(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols { // nobody asked for that
		return nil, a.unreachable(ctx, errors.New("it switches to another protocol"))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, a.limit+1))
	switch {
	case err != nil:
		return nil, a.unreachable(ctx, err)
	case int64(len(body)) > a.limit:
		return nil, a.tooLarge()
	case res.StatusCode >= 400:
		return nil, httpFailure(res, body)
	}
	return &invocationv1.InvokeResponse{Data: body, ContentType: res.Header.Get("Content-Type"), HttpStatus: int32(res.StatusCode),
		Metadata: headers(res.Header)}, nil
}

func (a *App) request(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*http.Request, error) {
	verb := in.GetVerb()
	if verb == "" {
		verb = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, verb, "http://"+a.address+"/"+strings.TrimPrefix(in.GetMethod(), "/"), bytes.NewReader(in.GetData()))
	if err != nil {
		return nil, fmt.Errorf("%w: %s %q: %w", components.ErrInvalid, verb, in.GetMethod(), err)
	}
	req.Header.Set("User-Agent", "outrigger")
	for name, value := range in.GetMetadata() {
		if passes(strings.ToLower(name)) {
			req.Header.Set(name, value)
		}
	}
	for name, values := range md {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if in.GetContentType() != "" {
		req.Header.Set("Content-Type", in.GetContentType())
	}
	return req, nil
}

// headers are those of an answer, each as one value (RFC 9110 section 5.3); of cookies, which cannot be joined, the first.
func headers(all http.Header) map[string]string {
	connection := strings.ToLower(strings.Join(all["Connection"], ","))
	out := make(map[string]string, len(all))
	for name, values := range all {
		name = strings.ToLower(name)
		switch {
		case !passes(name), listed(connection, name):
		case name == "set-cookie":
			out[name] = strings.ToValidUTF8(values[0], "?")
		default:
			out[name] = strings.ToValidUTF8(strings.Join(values, ", "), "?")
		}
	}
	return out
}

func listed(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(item) == name {
			return true
		}
	}
	return false
}

// What of an answer goes into an error's message.
const (
	bodyShown   = 1 << 10
	statusShown = 64
)

// httpFailure is the error of an HTTP status; the application's body is its message as far as it is short text.
func httpFailure(res *http.Response, body []byte) error {
	text := strings.ToValidUTF8(string(body[:min(len(body), bodyShown)]), "\uFFFD")
	plain := status.Newf(codeOf(res.StatusCode), "the application answered %s: %s", strings.ToValidUTF8(res.Status[:min(len(res.Status), statusShown)], "?"), text)
	reason := ReasonAppHTTPStatus
	if res.StatusCode == http.StatusConflict && branchFailed(res.Header.Get(txReason)) {
		reason = transaction.ReasonBranchFailed
	}
	told, err := plain.WithDetails(&errdetails.ErrorInfo{Reason: string(reason), Domain: "outrigger",
		Metadata: map[string]string{"http_status": strconv.Itoa(res.StatusCode), "hop": "app"}})
	if err != nil {
		return plain.Err()
	}
	return told.Err()
}

// codeOf is the gRPC code for an HTTP status, as gRPC's own mapping and google.rpc.Code have it.
func codeOf(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
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
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		return codes.ResourceExhausted
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return codes.Unimplemented
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return codes.DeadlineExceeded
	}
	if httpStatus < 500 {
		return codes.FailedPrecondition
	}
	return codes.Internal
}
