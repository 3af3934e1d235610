package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
)

const rounds = 1000 // messages of a stream

// goClient does the cases against a server of another language.
type goClient struct {
	echo        echopb.EchoClient
	instance    string // what that server calls itself
	canceled    *atomic.Int64
	connections *atomic.Int64 // which the server has had
	rest        time.Duration // of the case "idle"
}

func (g *goClient) run(t *testing.T, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	do, ok := map[string]func(*testing.T, context.Context){
		"unary 1 KiB": func(t *testing.T, ctx context.Context) { g.same(t, ctx, 1<<10) },
		"unary 3 MiB": func(t *testing.T, ctx context.Context) { g.same(t, ctx, 3<<20) },
		"gzip":        func(t *testing.T, ctx context.Context) { g.same(t, ctx, 100<<10, grpc.UseCompressor("gzip")) },
		"metadata":    g.metadata, "status": g.status, "origin": g.origin, "deadline": g.deadline, "cancel": g.cancel,
		"client stream": g.clientStream, "server stream": g.serverStream, "bidi": g.bidi, "concurrent": g.concurrent,
		"large header": g.largeHeader, "idle": g.idle,
	}[name]
	if !ok {
		t.Fatal("no such case")
	}
	do(t, ctx)
}

func (g *goClient) same(t *testing.T, ctx context.Context, size int, opts ...grpc.CallOption) {
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	out, err := g.echo.Unary(ctx, &echopb.Message{Text: "hello", Data: data}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if out.GetText() != "hello" || !bytes.Equal(out.GetData(), data) || out.GetInstance() != g.instance {
		t.Fatalf("answer changed: %q, %d bytes, from %q", out.GetText(), len(out.GetData()), out.GetInstance())
	}
}

func (g *goClient) metadata(t *testing.T, ctx context.Context) {
	ctx = metadata.AppendToOutgoingContext(ctx, "x-echo", "1", "x-echo", "2", "x-echo-bin", "\x00\xc8\n", "x-echo-bin", "\xff")
	var header, trailer metadata.MD
	if _, err := g.echo.Unary(ctx, &echopb.Message{}, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		md         metadata.MD
		name, want string
	}{
		{header, "echo-header", "h"}, {header, "echo-bin", "\x00\x01\xff"}, {trailer, "echo-trailer", "t"},
		{trailer, "back-x-echo", "1, 2"}, {trailer, "back-x-echo-bin", "\x00\xc8\n, \xff"},
	} {
		if got := strings.Join(c.md.Get(c.name), ", "); got != c.want { // RFC 9110 section 5.3 lets a peer join values so
			t.Errorf("%s is %q, want %q", c.name, got, c.want)
		}
	}
}

func (g *goClient) status(t *testing.T, ctx context.Context) {
	_, err := g.echo.Unary(ctx, &echopb.Message{Text: "schön 100 % 日本", Code: int32(codes.DataLoss)})
	s := status.Convert(err)
	if s.Code() != codes.DataLoss || s.Message() != "schön 100 % 日本" || len(s.Details()) != 1 {
		t.Fatalf("status changed: %v %v", s, s.Details())
	}
	info, ok := s.Details()[0].(*errdetails.ErrorInfo)
	if !ok || info.GetReason() != "ECHO" || info.GetDomain() != "echo.test" || info.GetMetadata()["k"] != "v" {
		t.Fatalf("details changed: %v", s.Details())
	}
}

func (g *goClient) origin(t *testing.T, ctx context.Context) {
	for _, code := range []codes.Code{codes.OK, codes.FailedPrecondition} {
		var trailer metadata.MD
		_, err := g.echo.Unary(ctx, &echopb.Message{Code: int32(code)}, grpc.Trailer(&trailer))
		if got := trailer.Get("outrigger-origin"); status.Code(err) != code || len(got) != 1 || got[0] != "app" {
			t.Errorf("origin is %q of %v, want app of %v", got, err, code)
		}
	}
}

func (g *goClient) deadline(t *testing.T, ctx context.Context) {
	before, began := g.canceled.Load(), time.Now()
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	_, err := g.echo.Unary(ctx, &echopb.Message{WaitMs: 60_000})
	if status.Code(err) != codes.DeadlineExceeded || time.Since(began) > 20*time.Second {
		t.Fatalf("after %s: %v", time.Since(began), err)
	}
	g.expectCanceled(t, before+1)
}

func (g *goClient) cancel(t *testing.T, ctx context.Context) {
	before := g.canceled.Load()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := g.echo.Repeat(ctx, &echopb.Message{Times: 1 << 20, WaitMs: 10})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	g.expectCanceled(t, before+1)
}

// expectCanceled waits until the server has said n times that a call ended early.
func (g *goClient) expectCanceled(t *testing.T, n int64) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, func() error {
		if got := g.canceled.Load(); got != n {
			return fmt.Errorf("the server saw %d calls end early, want %d", got, n)
		}
		return nil
	})
}

func (g *goClient) clientStream(t *testing.T, ctx context.Context) {
	s, err := g.echo.Collect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range rounds {
		if err := s.Send(&echopb.Message{Text: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.CloseAndRecv(); err != nil || got.GetTimes() != rounds || got.GetText() != strings.Repeat("x", rounds) {
		t.Fatalf("got %d messages, %v", got.GetTimes(), err)
	}
}

func (g *goClient) serverStream(t *testing.T, ctx context.Context) {
	s, err := g.echo.Repeat(ctx, &echopb.Message{Text: "y", Times: rounds, Code: int32(codes.Aborted)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range rounds {
		if got, err := s.Recv(); err != nil || got.GetTimes() != int32(i) || got.GetText() != "y" {
			t.Fatalf("message %d: %v, %v", i, got, err)
		}
	}
	if _, err := s.Recv(); status.Code(err) != codes.Aborted {
		t.Fatalf("it ended with %v", err)
	}
}

func (g *goClient) bidi(t *testing.T, ctx context.Context) {
	s, err := g.echo.Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rounds {
		if err := s.Send(&echopb.Message{Times: int32(i)}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(); err != nil || got.GetTimes() != int32(i) {
			t.Fatalf("message %d: %v, %v", i, got, err)
		}
	}
	s.CloseSend()
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("it ended with %v", err)
	}
}

func (g *goClient) concurrent(t *testing.T, ctx context.Context) {
	began := time.Now()
	var wait sync.WaitGroup
	for i := range 50 {
		wait.Go(func() {
			text := fmt.Sprint(i)
			if out, err := g.echo.Unary(ctx, &echopb.Message{Text: text, WaitMs: 500}); err != nil || out.GetText() != text {
				t.Errorf("call %d: %v, %v", i, out, err)
			}
		})
	}
	wait.Wait()
	if took := time.Since(began); took > 20*time.Second { // one after the other they take 25 s
		t.Errorf("50 calls took %s", took)
	}
}

func (g *goClient) largeHeader(t *testing.T, ctx context.Context) {
	value := strings.Repeat("abcdefghijklmnop", 512)
	var trailer metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, "x-echo", value)
	if _, err := g.echo.Unary(ctx, &echopb.Message{}, grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	if got := trailer.Get("back-x-echo"); len(got) != 1 || got[0] != value {
		t.Fatalf("came back as %d values", len(got))
	}
}

// idle waits longer than the servers' keepalive, which PINGs the sidecar meanwhile and would close what does not answer.
func (g *goClient) idle(t *testing.T, ctx context.Context) {
	before := g.connections.Load()
	time.Sleep(g.rest)
	g.same(t, ctx, 1<<10)
	if made := g.connections.Load() - before; made != 0 {
		t.Fatalf("the sidecar had to connect anew, %d times", made)
	}
}
