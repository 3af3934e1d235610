// Package callback calls the application beside the sidecar on its own port, for what arrives not in the application's
// protocol but as a message of ours.
//
// The caller's deadline and its giving up end the call to the application: a gRPC application is told the deadline, an HTTP one,
// for which there is no header that all know, sees its connection end. Redirects are answers like others.
package callback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
)

// Reasons of errors.
const (
	ReasonAppUnreachable components.Reason = "APP_UNREACHABLE" // the application's port does not answer
	ReasonAppHTTPStatus  components.Reason = "APP_HTTP_STATUS" // the application answered an HTTP status from 400 on
	ReasonAppGarbage     components.Reason = "APP_GARBAGE"     // what answers there does not speak the protocol
	ReasonNoAppPort      components.Reason = "APP_PORT_UNSET"  // the sidecar does not know where the application listens
	ReasonAnswerTooLarge components.Reason = "ANSWER_TOO_LARGE"
	// ReasonStreamingMethod is for a method that answers with more or less than one message.
	ReasonStreamingMethod components.Reason = "STREAMING_METHOD"
)

// How an application says that a branch of a transaction cannot be done, where it has no google.rpc.ErrorInfo at hand: in a trailer of
// a call that ends with ABORTED, or in a header of the status 409.
const txReason = "tx-reason"

func branchFailed(said string) bool { return said == string(transaction.ReasonBranchFailed) }

// App is the application's server. Safe for concurrent use.
type App struct {
	protocol string
	port     int
	limit    int64
	address  string
	other    string // a protocol that has no place for what an Invoke carries
	client   *http.Client
	conn     *grpc.ClientConn

	at places
}

const dialTime = 5 * time.Second

// New makes the callee at 127.0.0.1:port that speaks protocol; one that speaks neither http nor grpc (but bolt, dubbo or tcp) refuses each call. Answers over limit bytes are refused. Port 0 is an
// application whose port is not known: each call fails.
func New(protocol string, port int, limit int64) (*App, error) {
	a := &App{protocol: protocol, port: port, limit: limit, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	if port == 0 {
		return a, nil
	}
	switch protocol {
	case "http":
		a.client = newClient()
		return a, nil
	case "grpc":
		var err error
		a.conn, err = newConn(a.address, int(limit))
		return a, err
	case "bolt", "dubbo", "tcp":
		a.other = protocol
		return a, nil
	}
	return nil, fmt.Errorf("%w: an application that speaks %q cannot be called by Invoke", components.ErrUnsupported, protocol)
}

func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, DisableCompression: true,
			MaxResponseHeaderBytes: 1 << 20, DialContext: (&net.Dialer{Timeout: dialTime}).DialContext},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func newConn(address string, limit int) (*grpc.ClientConn, error) {
	// An application that is away for long is found again soon: it is on this machine.
	patience := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: patience, MinConnectTimeout: dialTime}), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(limit), grpc.MaxCallSendMsgSize(limit)))
}

// Close ends idle connections; calls of HTTP under way go on, those of gRPC end.
func (a *App) Close() {
	if a.client != nil {
		a.client.CloseIdleConnections()
	}
	if a.conn != nil {
		a.conn.Close()
	}
	a.at.close()
}

// Invoke calls one method of the application. md goes along as headers or metadata, before what the request says. An error that
// is a gRPC status is the application's own word, all others are of the kinds of components.
func (a *App) Invoke(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error) {
	if a.other != "" {
		return nil, fmt.Errorf("%w: the application speaks %s, which Invoke does not: call it in its own protocol through the sidecar", components.ErrUnsupported, a.other)
	}
	if a.client == nil && a.conn == nil {
		return nil, components.WithReason(fmt.Errorf("%w: the called sidecar does not know its application's port (app.port)", components.ErrUnavailable), ReasonNoAppPort)
	}
	for name, value := range in.GetMetadata() {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("%w: metadata %q is no header", components.ErrInvalid, name)
		}
	}
	if a.client != nil {
		return a.invokeHTTP(ctx, in, md)
	}
	return a.invokeGRPC(ctx, in, md)
}

// unreachable tells apart what kept an answer from coming.
func (a *App) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	reason := ReasonAppGarbage
	var op *net.OpError
	if errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		reason = ReasonAppUnreachable
	}
	return components.WithReason(fmt.Errorf("%w: the application at %s did not answer: %w", components.ErrUnavailable, a.address, err), reason)
}

func (a *App) tooLarge() error {
	return components.WithReason(fmt.Errorf("%w: the application's answer is over %d bytes: max_message_bytes at hop inbound", components.ErrExhausted, a.limit),
		ReasonAnswerTooLarge, "limit", "max_message_bytes", "hop", "inbound")
}

// passes tells whether a header goes from the caller to the application, or back, besides body and content type: not what speaks
// of one connection (RFC 9110 section 7.6.1), and not what sidecars say to each other.
func passes(name string) bool {
	return !slices.Contains(hopByHop, name) && !strings.HasPrefix(name, "outrigger-") && !strings.HasPrefix(name, ":")
}

var hopByHop = []string{"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection", "expect", "host", "content-length", "content-type"}
