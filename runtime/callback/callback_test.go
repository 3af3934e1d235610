package callback_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/components"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	"github.com/outrigger-mesh/outrigger/runtime/callback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 1 << 16

func newApp(t *testing.T, protocol string, port int) *callback.App {
	t.Helper()
	a, err := callback.New(protocol, port, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func serve(t *testing.T, handle http.HandlerFunc) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, done := &http.Server{Handler: handle}, make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); <-done })
	return ln.Addr().(*net.TCPAddr).Port
}

// answer is an application that says a text to whatever it is sent, and hangs up.
func answer(t *testing.T, text string) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(10 * time.Second))
				nc.Read(make([]byte, 1<<10))
				io.WriteString(nc, text)
				nc.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, nc)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); tasks.Wait() })
	return ln.Addr().(*net.TCPAddr).Port
}

func deadPort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func reason(err error) components.Reason {
	var d *components.Detail
	if errors.As(err, &d) {
		return d.Reason
	}
	for _, x := range status.Convert(err).Details() {
		if info, ok := x.(*errdetails.ErrorInfo); ok {
			return components.Reason(info.GetReason())
		}
	}
	return ""
}

func TestHTTPCall(t *testing.T) {
	var saw *http.Request
	var body []byte
	a := newApp(t, "http", serve(t, func(w http.ResponseWriter, r *http.Request) {
		saw = r.Clone(context.Background())
		body, _ = io.ReadAll(r.Body)
		w.Header()["X-Many"] = []string{"1", "2"}
		w.Header()["Set-Cookie"] = []string{"a=1, x", "b=2"}
		w.Header().Set("Connection", "X-Hop, keep-alive")
		w.Header().Set("X-Hop", "h")
		w.Header().Set("Outrigger-Origin", "sidecar")
		w.Header().Set("Content-Type", "text/x")
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, "answer to "+r.Method)
	}))
	for _, verb := range []string{"", "GET", "PUT", "DELETE", "PATCH", "HEAD"} {
		out, err := a.Invoke(within(t, 10*time.Second), &invocationv1.InvokeRequest{Method: "/a/b%20c?q=1&q=2", Verb: verb, Data: []byte("data"), ContentType: "text/y",
			Metadata: map[string]string{"x-own": "o", "Outrigger-Hops": "0", "traceparent": "forged", "Connection": "close", "Transfer-Encoding": "chunked", "Expect": "100-continue", "Host": "evil", "Content-Length": "1"}},
			metadata.MD{"outrigger-hops": {"3"}, "traceparent": {"t"}})
		if err != nil {
			t.Fatalf("%s: %v", verb, err)
		}
		want := "answer to " + saw.Method
		if verb == "HEAD" {
			want = ""
		}
		if string(out.GetData()) != want || out.GetHttpStatus() != 202 || out.GetContentType() != "text/x" {
			t.Errorf("%s: %v", verb, out)
		}
		if verb == "" && saw.Method != "POST" || verb != "" && saw.Method != verb || saw.URL.String() != "/a/b%20c?q=1&q=2" || string(body) != "data" || saw.ContentLength != 4 {
			t.Errorf("%s: the application saw %s %s with %q", verb, saw.Method, saw.URL, body)
		}
		for name, want := range map[string]string{"X-Own": "o", "Outrigger-Hops": "3", "Traceparent": "t", "Content-Type": "text/y", "Expect": ""} {
			if got := strings.Join(saw.Header[name], "|"); got != want {
				t.Errorf("%s: the application saw %s: %q, want %q", verb, name, got, want)
			}
		}
		if saw.Close || saw.Host == "evil" || len(saw.TransferEncoding) != 0 {
			t.Errorf("%s: what speaks of a connection was passed on: %v", verb, saw)
		}
		md := out.GetMetadata()
		if md["x-many"] != "1, 2" || md["set-cookie"] != "a=1, x" {
			t.Errorf("%s: headers %v", verb, md)
		}
		for _, name := range []string{"connection", "x-hop", "outrigger-origin", "content-type", "content-length"} {
			if v, ok := md[name]; ok {
				t.Errorf("%s: the caller sees %s: %s", verb, name, v)
			}
		}
	}
}

func TestHTTPAnswers(t *testing.T) {
	a := newApp(t, "http", serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch q.Get("do") {
		case "redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "chunks":
			for range 3 {
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
			}
		case "large":
			io.Copy(w, strings.NewReader(strings.Repeat("x", limit+1)))
		case "full":
			io.Copy(w, strings.NewReader(strings.Repeat("x", limit)))
		case "code":
			code := 0
			fmt.Sscan(q.Get("code"), &code)
			w.WriteHeader(code)
			w.Write([]byte("why \xff " + strings.Repeat("y", 5000)))
		}
	}))
	do := func(query string) (*invocationv1.InvokeResponse, error) {
		return a.Invoke(within(t, 10*time.Second), &invocationv1.InvokeRequest{Method: "x?" + query}, nil)
	}
	if out, err := do("do=redirect"); err != nil || out.GetHttpStatus() != 302 || out.GetMetadata()["location"] != "/elsewhere" {
		t.Errorf("redirect: %v, %v", out, err)
	}
	if out, err := do("do=chunks"); err != nil || string(out.GetData()) != "xxx" {
		t.Errorf("chunks: %v, %v", out, err)
	}
	if out, err := do("do=full"); err != nil || len(out.GetData()) != limit {
		t.Errorf("an answer as large as may be: %v", err)
	}
	if _, err := do("do=large"); !errors.Is(err, components.ErrExhausted) || reason(err) != callback.ReasonAnswerTooLarge {
		t.Errorf("a larger one: %v", err)
	}
	for http, want := range map[int]codes.Code{400: codes.InvalidArgument, 401: codes.Unauthenticated, 403: codes.PermissionDenied, 404: codes.NotFound, 405: codes.Unimplemented,
		408: codes.DeadlineExceeded, 409: codes.Aborted, 412: codes.FailedPrecondition, 418: codes.FailedPrecondition, 422: codes.InvalidArgument, 429: codes.ResourceExhausted,
		500: codes.Internal, 501: codes.Unimplemented, 502: codes.Unavailable, 503: codes.Unavailable, 504: codes.DeadlineExceeded, 599: codes.Internal} {
		_, err := do("do=code&" + url.Values{"code": {fmt.Sprint(http)}}.Encode())
		st := status.Convert(err)
		if st.Code() != want || reason(err) != callback.ReasonAppHTTPStatus || !strings.Contains(st.Message(), fmt.Sprint(http)) || len(st.Message()) > 1500 {
			t.Errorf("status %d: %v", http, err)
		}
	}
}

// However the application is not as it should be, there is a reason, and it is not the application's own word.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name     string
		protocol string
		port     int
		want     components.Reason
	}{
		{"http refused", "http", deadPort(t), callback.ReasonAppUnreachable},
		{"http closed", "http", answer(t, ""), callback.ReasonAppUnreachable},
		{"http garbage", "http", answer(t, "SSH-2.0-x\r\n\r\n"), callback.ReasonAppGarbage},
		{"http torn", "http", answer(t, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), callback.ReasonAppUnreachable},
		{"http switching", "http", answer(t, "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), callback.ReasonAppGarbage},
		{"http without a port", "http", 0, callback.ReasonNoAppPort},
		{"grpc refused", "grpc", deadPort(t), callback.ReasonAppUnreachable},
		{"grpc closed", "grpc", answer(t, ""), callback.ReasonAppUnreachable},
		{"grpc garbage", "grpc", answer(t, "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n and more than a frame's header"), callback.ReasonAppGarbage},
		{"grpc without a port", "grpc", 0, callback.ReasonNoAppPort},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newApp(t, c.protocol, c.port).Invoke(within(t, 10*time.Second), &invocationv1.InvokeRequest{Method: "a/b"}, nil)
			if _, word := err.(interface{ GRPCStatus() *status.Status }); word || !errors.Is(err, components.ErrUnavailable) || reason(err) != c.want {
				t.Fatalf("%v with reason %s, want %s", err, reason(err), c.want)
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	for _, protocol := range []string{"http", "grpc"} {
		a := newApp(t, protocol, deadPort(t))
		for _, in := range []*invocationv1.InvokeRequest{
			{Method: "a/b", Metadata: map[string]string{"bad name": "v"}}, {Method: "a/b", Metadata: map[string]string{"n": "a\r\nb: c"}},
			{Method: "a/b", Metadata: map[string]string{"": "v"}}, {Method: "a/%zz\x7f", Verb: "GET"},
		} {
			if _, err := a.Invoke(within(t, 10*time.Second), in, nil); !errors.Is(err, components.ErrInvalid) {
				t.Errorf("%s: %v: %v", protocol, in, err)
			}
		}
	}
	if _, err := newApp(t, "http", deadPort(t)).Invoke(within(t, 10*time.Second), &invocationv1.InvokeRequest{Method: "a", Verb: "BAD VERB"}, nil); !errors.Is(err, components.ErrInvalid) {
		t.Error(err)
	}
	g := newApp(t, "grpc", deadPort(t))
	for _, in := range []*invocationv1.InvokeRequest{{Method: "a"}, {Method: "/"}, {Method: "a/b", Metadata: map[string]string{"x-bin": "*"}}} {
		if _, err := g.Invoke(within(t, 10*time.Second), in, nil); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("%v: %v", in, err)
		}
	}
	if _, err := callback.New("thrift", 1, limit); !errors.Is(err, components.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := newApp(t, "bolt", deadPort(t)).Invoke(t.Context(), &invocationv1.InvokeRequest{Method: "a/b"}, nil); !errors.Is(err, components.ErrUnsupported) {
		t.Error(err)
	}
}

func TestDeadlineEndsTheCall(t *testing.T) {
	gone := make(chan struct{}, 1)
	a := newApp(t, "http", serve(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	if _, err := a.Invoke(within(t, 100*time.Millisecond), &invocationv1.InvokeRequest{Method: "x"}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the application was not told")
	}
	g, port := startGRPC(t, 0)
	b := newApp(t, "grpc", port)
	if _, err := b.Invoke(within(t, 300*time.Millisecond), check("wait", nil), nil); !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded { // the application may be the first to say so
		t.Fatal(err)
	}
	if _, ok := (<-g.deadlines).Deadline(); !ok {
		t.Error("the application knows of no deadline")
	}
}

// health is an application that speaks gRPC.
type health struct {
	healthpb.UnimplementedHealthServer
	seen      chan metadata.MD
	deadlines chan context.Context
}

func startGRPC(t *testing.T, port int, options ...grpc.ServerOption) (*health, int) {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		t.Fatal(err)
	}
	h := &health{seen: make(chan metadata.MD, 10), deadlines: make(chan context.Context, 10)}
	s, done := grpc.NewServer(options...), make(chan error, 1)
	healthpb.RegisterHealthServer(s, h)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return h, ln.Addr().(*net.TCPAddr).Port
}

func (h *health) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	h.seen <- md
	h.deadlines <- ctx
	grpc.SetHeader(ctx, metadata.Pairs("x-h", "1", "x-h", "2", "x-bin", "\x00\xff", "outrigger-origin", "sidecar"))
	grpc.SetTrailer(ctx, metadata.Pairs("x-t", "t"))
	switch in.GetService() {
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	case "fail":
		st, _ := status.New(codes.Aborted, "no").WithDetails(&errdetails.ErrorInfo{Reason: "OWN", Domain: "app"})
		return nil, st.Err()
	case "away":
		return nil, status.Error(codes.Unavailable, "the application's own")
	case "refuse": // with headers, as of an interceptor
		return nil, status.Error(codes.ResourceExhausted, "grpc: received message larger than max (2000 vs. 1000)")
	case "large":
		return nil, status.Error(codes.ResourceExhausted, "mine")
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func (h *health) Watch(in *healthpb.HealthCheckRequest, s grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if in.GetService() == "refuse" {
		return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", 2*limit, limit)
	}
	for range map[string]int{"none": 0, "one": 1, "two": 2}[in.GetService()] {
		if err := s.Send(&healthpb.HealthCheckResponse{}); err != nil {
			return err
		}
	}
	if in.GetService() == "two" {
		<-s.Context().Done()
	}
	return nil
}

func check(service string, md map[string]string) *invocationv1.InvokeRequest {
	data, err := proto.Marshal(&healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		panic(err)
	}
	return &invocationv1.InvokeRequest{Method: "grpc.health.v1.Health/Check", Data: data, Metadata: md}
}

func TestGRPCCall(t *testing.T) {
	h, port := startGRPC(t, 0)
	a := newApp(t, "grpc", port)
	out, err := a.Invoke(within(t, 10*time.Second), check("", map[string]string{"X-Own": "o", "y-bin": base64.RawStdEncoding.EncodeToString([]byte{0, 255, 1}),
		"outrigger-hops": "0", "te": "x", "traceparent": "forged"}), metadata.MD{"outrigger-hops": {"3"}, "traceparent": {"t"}})
	if err != nil {
		t.Fatal(err)
	}
	var answer healthpb.HealthCheckResponse
	if err := proto.Unmarshal(out.GetData(), &answer); err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", &answer, err)
	}
	md := <-h.seen
	for name, want := range map[string]string{"x-own": "o", "y-bin": "\x00\xff\x01", "outrigger-hops": "3", "traceparent": "t"} {
		if got := md.Get(name); len(got) != 1 || got[0] != want {
			t.Errorf("the application saw %s: %q, want %q", name, got, want)
		}
	}
	got := out.GetMetadata()
	if got["x-h"] != "1, 2" || got["x-t"] != "t" || got["x-bin"] != base64.StdEncoding.EncodeToString([]byte{0, 255}) {
		t.Errorf("metadata %v", got)
	}
	if _, ok := got["outrigger-origin"]; ok {
		t.Error("the application speaks as a sidecar")
	}
}

// What the application says passes as it is, and is told from what the sidecar says of it.
func TestGRPCErrors(t *testing.T) {
	_, port := startGRPC(t, 0)
	a := newApp(t, "grpc", port)
	for service, want := range map[string]codes.Code{"fail": codes.Aborted, "away": codes.Unavailable, "large": codes.ResourceExhausted} {
		_, err := a.Invoke(within(t, 10*time.Second), check(service, nil), nil)
		if _, word := err.(interface{ GRPCStatus() *status.Status }); !word || status.Code(err) != want {
			t.Errorf("%s: %v", service, err)
		}
		if service == "fail" && reason(err) != "OWN" {
			t.Errorf("its details are gone: %v", err)
		}
	}
	in := check("", nil)
	in.Method = "grpc.health.v1.Health/Nothing"
	if _, err := a.Invoke(within(t, 10*time.Second), in, nil); status.Code(err) != codes.Unimplemented {
		t.Errorf("an answer of trailers alone: %v", err)
	}
}

// An answer that is too large for the sidecar is told from a request that is too large for the application, which says so in the
// same words.
func TestTooLargeForWhom(t *testing.T) {
	_, port := startGRPC(t, 0)
	small, err := callback.New("grpc", port, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(small.Close)
	if _, err := small.Invoke(within(t, 10*time.Second), check("", nil), nil); !errors.Is(err, components.ErrExhausted) || reason(err) != callback.ReasonAnswerTooLarge {
		t.Errorf("an answer of 2 bytes where 1 is the limit: %v, reason %q", err, reason(err))
	}
	_, port = startGRPC(t, 0, grpc.MaxRecvMsgSize(1000))
	a := newApp(t, "grpc", port)
	same := check("refuse", nil) // in the words that the sidecar's client has for its own limit
	same.Method = "grpc.health.v1.Health/Watch"
	for _, in := range []*invocationv1.InvokeRequest{check(strings.Repeat("x", 1000), nil), check("refuse", nil), same} {
		_, err := a.Invoke(within(t, 10*time.Second), in, nil)
		if _, word := err.(interface{ GRPCStatus() *status.Status }); !word || status.Code(err) != codes.ResourceExhausted {
			t.Errorf("the application's own refusal: %v", err)
		}
	}
}

// Methods that answer with two messages, or with none, are streams, which Invoke cannot carry; they are cancelled.
func TestStreamingMethod(t *testing.T) {
	_, port := startGRPC(t, 0)
	a := newApp(t, "grpc", port)
	for service, fails := range map[string]bool{"two": true, "none": true, "one": false} {
		in := check(service, nil)
		in.Method = "grpc.health.v1.Health/Watch"
		_, err := a.Invoke(within(t, 10*time.Second), in, nil)
		if !fails && err != nil {
			t.Errorf("%s: %v", service, err)
		}
		if fails && (!errors.Is(err, components.ErrInvalid) || reason(err) != callback.ReasonStreamingMethod || !strings.Contains(err.Error(), "outrigger-service")) {
			t.Errorf("%s: %v, reason %q", service, err, reason(err))
		}
	}
}

func TestApplicationIsFoundAgain(t *testing.T) {
	port := deadPort(t)
	a := newApp(t, "grpc", port)
	if _, err := a.Invoke(within(t, time.Second), check("", nil), nil); err == nil {
		t.Fatal("nobody is there")
	}
	startGRPC(t, port)
	up := time.Now()
	for {
		_, err := a.Invoke(within(t, time.Second), check("", nil), nil)
		if err == nil {
			return
		}
		if time.Since(up) > 20*time.Second {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
