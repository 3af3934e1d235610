package integration

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// slow asks for an answer that comes after all deadlines of these tests.
var slow = &echopb.Message{WaitMs: 30_000}

// ways are how an application may call another one that does not answer. Each tells the trailers too, where there are any.
var ways = map[string]func(ctx context.Context, s *harness.Sidecar) (metadata.MD, error){
	"unary": func(ctx context.Context, s *harness.Sidecar) (md metadata.MD, err error) {
		_, err = echopb.NewEchoClient(s.Client().Conn("echo")).Unary(ctx, slow, grpc.Trailer(&md))
		return md, err
	},
	"stream": func(ctx context.Context, s *harness.Sidecar) (metadata.MD, error) {
		chat, err := echopb.NewEchoClient(s.Client().Conn("echo")).Chat(ctx)
		if err != nil {
			return nil, err
		}
		_, err = chat.Recv() // to a message that is not sent
		return chat.Trailer(), err
	},
	"invoke": func(ctx context.Context, s *harness.Sidecar) (metadata.MD, error) {
		data, err := proto.Marshal(slow)
		if err != nil {
			return nil, err
		}
		_, err = s.Client().Invoke(ctx, "echo", "integration.echo.v1.Echo/Unary", data)
		return nil, err
	},
	"http": invokeHTTP,
}

// TestHangingCallee calls applications that do not answer, one that does not even speak its protocol and one that is at work: the
// caller hears so, with a reason, which it can only before its own timer ends the call. Below 300 ms the reason is not asked for:
// on a busy machine that timer may be first.
func TestHangingCallee(t *testing.T) {
	short, middle, long := 50*time.Millisecond, 300*time.Millisecond, time.Second
	limits := []time.Duration{long, short, short, short, middle, middle, middle, long} // the first call also finds the instances
	for name, call := range ways {
		for kind, app := range map[string]func(*testing.T) int{
			"mute": func(t *testing.T) int { return harness.Listen(t, func(nc net.Conn) { io.Copy(io.Discard, nc) }) },
			"busy": func(t *testing.T) int { return harness.StartEcho(t, "echo").Port },
		} {
			t.Run(name+"-"+kind, func(t *testing.T) {
				dir, port := t.TempDir(), app(t)
				callee := harness.Start(t, harness.Options{App: "echo", AppPort: port, DataDir: dir})
				caller := harness.Start(t, harness.Options{App: "caller", DataDir: dir})
				publish(t, callee, dir, "echo")
				var without []error
				for _, limit := range limits {
					if err := checkLate(t, caller, call, limit); limit >= middle && client.Reason(err) != "TIMEOUT" {
						without = append(without, err)
					}
				}
				if len(without) > 1 { // of five: a machine may be busy, but not all the time
					t.Errorf("calls that ended without a reason: %v", without)
				}
			})
		}
	}
}

func checkLate(t *testing.T, caller *harness.Sidecar, call func(context.Context, *harness.Sidecar) (metadata.MD, error), limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	md, err := call(ctx, caller)
	if took := time.Since(began); status.Code(err) != codes.DeadlineExceeded || took < limit/2 {
		t.Errorf("deadline %s: after %s: %v", limit, took, err)
	}
	if client.Reason(err) != "TIMEOUT" {
		return err
	}
	if limit >= 300*time.Millisecond && (!strings.Contains(err.Error(), "default/echo") || !strings.Contains(err.Error(), "no answer")) {
		t.Errorf("deadline %s: %v", limit, err)
	}
	if md != nil && strings.Join(md.Get("outrigger-origin"), ",") != "sidecar" {
		t.Errorf("trailers %v", md)
	}
	return err
}

// invokeHTTP is Invoke over HTTP with JSON, and what it answers as a gRPC status.
func invokeHTTP(ctx context.Context, s *harness.Sidecar) (metadata.MD, error) {
	data, err := proto.Marshal(slow)
	if err != nil {
		return nil, err
	}
	body := fmt.Appendf(nil, `{"service": "echo", "method": "integration.echo.v1.Echo/Unary", "data": %q}`, base64.StdEncoding.EncodeToString(data))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.HTTP+"/outrigger.invocation.v1.Invocation/Invoke", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connect-Timeout-Ms", strconv.FormatInt(time.Until(deadline).Milliseconds(), 10))
	res, err := http.DefaultClient.Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, status.FromContextError(context.DeadlineExceeded).Err()
	} else if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var answer struct {
		Code, Message string
		Details       []struct{ Value string }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Code != "deadline_exceeded" {
		return nil, fmt.Errorf("%s: %+v", res.Status, answer)
	}
	if len(answer.Details) == 0 {
		return nil, status.Error(codes.DeadlineExceeded, answer.Message)
	}
	var info errdetails.ErrorInfo
	value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(answer.Details[0].Value, "="))
	if err == nil {
		err = proto.Unmarshal(value, &info)
	}
	if err != nil {
		return nil, err
	}
	st, err := status.New(codes.DeadlineExceeded, answer.Message).WithDetails(&info)
	if err != nil {
		return nil, err
	}
	return nil, st.Err()
}

// TestDeadlineOfAnAnsweringStream lets a stream whose answer has begun run into its deadline: it ends by trailers, and the
// application, which was told the deadline that the caller has set, is cancelled.
func TestDeadlineOfAnAnsweringStream(t *testing.T) {
	p := newPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	chat, err := p.echo.Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := chat.Send(&echopb.Message{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chat.Recv(); err != nil {
		t.Fatal(err)
	}
	_, err = chat.Recv()
	if status.Code(err) != codes.DeadlineExceeded || client.Reason(err) != "TIMEOUT" || !strings.Contains(err.Error(), "has begun") || ctx.Err() != nil {
		t.Fatalf("got %v, reason %q", err, client.Reason(err))
	}
	harness.Eventually(t, 10*time.Second, func() error { return atLeast(p.app.Canceled.Load(), 1) })
}
