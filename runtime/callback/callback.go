// Package callback calls the application beside the sidecar on its own port, for what arrives not in the application's
// protocol but as a message of ours.
package callback

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
)

// Reasons of errors.
const (
	ReasonAppUnreachable components.Reason = "APP_UNREACHABLE" // the application's port does not answer
	ReasonAppHTTPStatus  components.Reason = "APP_HTTP_STATUS" // the application answered an HTTP status from 400 on
	ReasonAppGarbage     components.Reason = "APP_GARBAGE"     // what answers there does not speak the protocol
	ReasonNoAppPort      components.Reason = "APP_PORT_UNSET"  // the sidecar does not know where the application listens
	ReasonAnswerTooLarge components.Reason = "ANSWER_TOO_LARGE"
)

// App is the application's server. Safe for concurrent use.
type App struct {
	protocol string
	limit    int64
	address  string
	client   *http.Client
	conn     *grpc.ClientConn
}

// New makes the callee at 127.0.0.1:port that speaks protocol (http or grpc). Answers over limit bytes are refused.
func New(protocol string, port int, limit int64) (*App, error) {
	a := &App{protocol: protocol, limit: limit, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	if port == 0 {
		return a, nil
	}
	var err error
	switch protocol {
	case "http":
		a.client = &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, DisableCompression: true, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	case "grpc":
		a.conn, err = grpc.NewClient("passthrough:///"+a.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(int(limit)), grpc.MaxCallSendMsgSize(int(limit))))
	default:
		err = fmt.Errorf("%w: an application that speaks %q cannot be called by Invoke", components.ErrUnsupported, protocol)
	}
	return a, err
}

// Close ends idle connections; calls under way go on.
func (a *App) Close() {
	if a.client != nil {
		a.client.CloseIdleConnections()
	}
	if a.conn != nil {
		a.conn.Close()
	}
}

// Invoke calls one method of the application. md goes along as headers or metadata, besides what the request says.
func (a *App) Invoke(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error) {
	switch {
	case a.client != nil:
		return a.invokeHTTP(ctx, in, md)
	case a.conn != nil:
		return a.invokeGRPC(ctx, in, md)
	}
	return nil, components.WithReason(fmt.Errorf("%w: the called sidecar does not know its application's port (app.port)", components.ErrUnavailable), ReasonNoAppPort)
}

func (a *App) invokeHTTP(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error) {
	verb := in.GetVerb()
	if verb == "" {
		verb = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, verb, "http://"+a.address+"/"+strings.TrimPrefix(in.GetMethod(), "/"), bytes.NewReader(in.GetData()))
	if err != nil {
		return nil, fmt.Errorf("%w: method %q: %w", components.ErrInvalid, in.GetMethod(), err)
	}
	for name, values := range md {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	for name, value := range in.GetMetadata() {
		req.Header.Set(name, value)
	}
	if in.GetContentType() != "" {
		req.Header.Set("Content-Type", in.GetContentType())
	}
	res, err := a.client.Do(req)
	if err != nil {
		return nil, a.unreachable(ctx, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, a.limit+1))
	switch {
	case err != nil:
		return nil, a.unreachable(ctx, err)
	case int64(len(body)) > a.limit:
		return nil, components.WithReason(fmt.Errorf("%w: the application's answer is over %d bytes", components.ErrExhausted, a.limit),
			ReasonAnswerTooLarge, "limit", "max_message_bytes", "hop", "inbound")
	case res.StatusCode >= 400:
		return nil, httpFailure(res, body)
	}
	return &invocationv1.InvokeResponse{Data: body, ContentType: res.Header.Get("Content-Type"), HttpStatus: int32(res.StatusCode), Metadata: flat(res.Header)}, nil
}

// unreachable tells apart what kept an answer from coming.
func (a *App) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	reason := ReasonAppUnreachable
	var op *net.OpError
	if !errors.As(err, &op) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		reason = ReasonAppGarbage
	}
	return components.WithReason(fmt.Errorf("%w: the application at %s did not answer: %w", components.ErrUnavailable, a.address, err), reason)
}

// httpFailure is the error of an HTTP status; the application's body is its message as far as it is short text.
func httpFailure(res *http.Response, body []byte) error {
	text := strings.ToValidUTF8(string(body[:min(len(body), 1<<10)]), "\uFFFD")
	plain := status.Newf(codeOf(res.StatusCode), "the application answered %s: %s", res.Status, text)
	told, err := plain.WithDetails(&errdetails.ErrorInfo{Reason: string(ReasonAppHTTPStatus), Domain: "outrigger",
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

func (a *App) invokeGRPC(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error) {
	md = md.Copy()
	for name, value := range in.GetMetadata() {
		if strings.HasSuffix(name, binary) {
			bytes, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return nil, fmt.Errorf("%w: metadata %q is not base64: %w", components.ErrInvalid, name, err)
			}
			value = string(bytes)
		}
		md.Set(name, value)
	}
	var out payload
	var header, trailer metadata.MD
	err := a.conn.Invoke(metadata.NewOutgoingContext(ctx, md), "/"+strings.TrimPrefix(in.GetMethod(), "/"), payload(in.GetData()), &out,
		grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		return nil, err
	}
	return &invocationv1.InvokeResponse{Data: out, ContentType: "application/grpc", Metadata: flat(metadata.Join(header, trailer))}, nil
}

// binary ends the names of metadata that is bytes: in the text of a message it stands as base64.
const binary = "-bin"

// flat keeps the first value of each header that is the application's own.
func flat(all map[string][]string) map[string]string {
	out := make(map[string]string, len(all))
	for name, values := range all {
		name = strings.ToLower(name)
		if len(values) == 0 || slices.Contains(hopByHop, name) {
			continue
		}
		out[name] = values[0]
		if strings.HasSuffix(name, binary) {
			out[name] = base64.StdEncoding.EncodeToString([]byte(values[0]))
		}
	}
	return out
}

// hopByHop are the headers that speak of one connection (RFC 9110 section 7.6.1), and of a body that is handed on whole.
var hopByHop = []string{"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection", "content-length", "content-type"}

// payload is a marshalled message, passed through as it is.
type payload []byte

type raw struct{}

var _ encoding.CodecV2 = raw{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.(payload)
	if !ok {
		return nil, fmt.Errorf("callback: cannot marshal %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(p)}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*payload)
	if !ok {
		return fmt.Errorf("callback: cannot unmarshal into %T", v)
	}
	*p = data.Materialize()
	return nil
}
