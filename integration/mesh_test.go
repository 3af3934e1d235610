// Package integration drives the built sidecar from outside, over public protocols alone.
package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// pair is an application with its sidecar, and a caller's sidecar.
type pair struct {
	dir    string
	app    *harness.Echo
	callee *harness.Sidecar
	caller *harness.Sidecar
	client *client.Client
	echo   echopb.EchoClient
}

// newPair starts both sidecars with the default components, and with more configuration if there is any.
func newPair(t *testing.T, more ...string) *pair {
	p := &pair{dir: t.TempDir(), app: harness.StartEcho(t, "one")}
	config := ""
	if len(more) > 0 {
		config = "cache: {default: {driver: memory}}\nregistry: {default: {driver: file}}\n" + strings.Join(more, "")
	}
	p.callee = harness.Start(t, harness.Options{App: "echo", AppPort: p.app.Port, DataDir: p.dir, Config: config})
	p.caller = harness.Start(t, harness.Options{App: "caller", DataDir: p.dir, Config: config})
	p.client = p.caller.Client()
	p.echo = echopb.NewEchoClient(p.client.Conn("echo"))
	p.published(t, "echo", 1)
	return p
}

// published waits until a service has n instances.
func (p *pair) published(t *testing.T, service string, n int) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, func() error {
		r, err := p.client.Registry().Resolve(t.Context(), client.Service{Name: service})
		if n == 0 && err != nil {
			return nil
		}
		if err == nil && len(r.Instances) != n {
			err = fmt.Errorf("%d instances", len(r.Instances))
		}
		return err
	})
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestUnaryUnchanged(t *testing.T) {
	p := newPair(t)
	ctx := metadata.AppendToOutgoingContext(within(t, 10*time.Second), "x-echo", "1", "x-echo", "2", "x-echo-bin", string([]byte{0, 200, 10}))
	var header, trailer metadata.MD
	out, err := p.echo.Unary(ctx, &echopb.Message{Text: "hello", Data: make([]byte, 100<<10)}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		t.Fatal(err)
	}
	if out.GetText() != "hello" || len(out.GetData()) != 100<<10 || out.GetInstance() != "one" {
		t.Fatalf("answer changed: %q, %d bytes, from %q", out.GetText(), len(out.GetData()), out.GetInstance())
	}
	for _, c := range []struct {
		md   metadata.MD
		name string
		want string
	}{
		{header, "echo-header", "h"}, {header, "echo-bin", "\x00\x01\xff"}, {trailer, "echo-trailer", "t"},
		{trailer, "back-x-echo", "1|2"}, {trailer, "back-x-echo-bin", "\x00\xc8\n"}, {trailer, "outrigger-origin", "app"},
	} {
		if got := strings.Join(c.md.Get(c.name), "|"); got != c.want {
			t.Errorf("%s is %q, want %q", c.name, got, c.want)
		}
	}
}

func TestErrorUnchanged(t *testing.T) {
	p := newPair(t)
	var trailer metadata.MD
	_, err := p.echo.Unary(within(t, 10*time.Second), &echopb.Message{Text: "schön 100 %", Code: int32(codes.DataLoss)}, grpc.Trailer(&trailer))
	s := status.Convert(err)
	if s.Code() != codes.DataLoss || s.Message() != "schön 100 %" || len(s.Details()) != 1 {
		t.Fatalf("status changed: %v %v", s, s.Details())
	}
	if info, ok := s.Details()[0].(*errdetails.ErrorInfo); !ok || info.GetReason() != "ECHO" || info.GetMetadata()["k"] != "v" {
		t.Fatalf("details changed: %v", s.Details())
	}
	if got := trailer.Get("outrigger-origin"); len(got) != 1 || got[0] != "app" {
		t.Fatalf("origin is %q", got)
	}
}

func TestStreams(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 30*time.Second)
	up, err := p.echo.Collect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := up.Send(&echopb.Message{Text: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := up.CloseAndRecv(); err != nil || got.GetTimes() != 100 || len(got.GetText()) != 100 {
		t.Fatalf("client stream: %v, %v", got, err)
	}
	down, err := p.echo.Repeat(ctx, &echopb.Message{Text: "y", Times: 100, Code: int32(codes.Aborted)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if got, err := down.Recv(); err != nil || got.GetTimes() != int32(i) {
			t.Fatalf("server stream, message %d: %v, %v", i, got, err)
		}
	}
	if _, err := down.Recv(); status.Code(err) != codes.Aborted {
		t.Fatalf("server stream ended with %v", err)
	}
	both, err := p.echo.Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := both.Send(&echopb.Message{Times: int32(i)}); err != nil {
			t.Fatal(err)
		}
		if got, err := both.Recv(); err != nil || got.GetTimes() != int32(i) {
			t.Fatalf("chat, message %d: %v, %v", i, got, err)
		}
	}
	both.CloseSend()
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("chat ended with %v", err)
	}
}

func TestDeadlineAndCancelReachTheApplication(t *testing.T) {
	p := newPair(t)
	began := time.Now()
	_, err := p.echo.Unary(within(t, 300*time.Millisecond), &echopb.Message{WaitMs: 60_000})
	if status.Code(err) != codes.DeadlineExceeded || time.Since(began) > 10*time.Second {
		t.Fatalf("after %s: %v", time.Since(began), err)
	}
	harness.Eventually(t, 10*time.Second, func() error { return atLeast(p.app.Canceled.Load(), 1) })
	ctx, cancel := context.WithCancel(t.Context())
	s, err := p.echo.Repeat(ctx, &echopb.Message{Times: 1 << 20, WaitMs: 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	harness.Eventually(t, 10*time.Second, func() error { return atLeast(p.app.Canceled.Load(), 2) })
}

// TestDeadlineIsTheCallers: one that a call brings arrives, and one that it does not bring is not made up.
func TestDeadlineIsTheCallers(t *testing.T) {
	p := newPair(t)
	for _, c := range []struct {
		ctx  context.Context
		want bool
	}{{within(t, 20*time.Second), true}, {t.Context(), false}} {
		var trailer metadata.MD
		if _, err := p.echo.Unary(c.ctx, &echopb.Message{}, grpc.Trailer(&trailer)); err != nil {
			t.Fatal(err)
		}
		seen := strings.Join(trailer.Get("echo-deadline"), "")
		left, err := time.ParseDuration(seen)
		if c.want && (err != nil || left <= 0 || left > 20*time.Second) || !c.want && seen != "" {
			t.Errorf("with a deadline: %v; the application saw %q", c.want, seen)
		}
	}
}

func atLeast(got, want int64) error {
	if got < want {
		return fmt.Errorf("%d, want %d", got, want)
	}
	return nil
}

func TestSlowReaderCostsBoundedMemory(t *testing.T) {
	p := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := p.caller.RSS() + p.callee.RSS()
	s, err := p.echo.Repeat(ctx, &echopb.Message{Data: make([]byte, 1<<20), Times: 1000}) // 1 GiB that nobody reads
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	for range 20 { // others go on
		if _, err := p.echo.Unary(within(t, 10*time.Second), &echopb.Message{Text: "meanwhile"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	grown := p.caller.RSS() + p.callee.RSS() - before
	t.Logf("two sidecars grew by %d KiB for a stream of 1 GiB that nobody reads", grown>>10)
	if grown > 64<<20 {
		t.Fatalf("two sidecars grew by %d MiB", grown>>20)
	}
}

func TestInvokeGRPC(t *testing.T) {
	p := newPair(t)
	_, err := p.client.Invoke(within(t, 10*time.Second), "echo", "integration.echo.v1.Echo/Unary", []byte("\x0a\x02hi"))
	if err != nil {
		t.Fatal(err)
	}
}

func TestSpreadsOverInstances(t *testing.T) {
	p := newPair(t)
	two := harness.StartEcho(t, "two")
	harness.Start(t, harness.Options{App: "echo", AppPort: two.Port, DataDir: p.dir, Args: []string{"-config", twoConfig(t)}})
	p.published(t, "echo", 2)
	seen := map[string]int{}
	for range 200 {
		out, err := p.echo.Unary(within(t, 10*time.Second), &echopb.Message{})
		if err != nil {
			t.Fatal(err)
		}
		seen[out.GetInstance()]++
	}
	if seen["one"] < 40 || seen["two"] < 40 {
		t.Fatalf("200 calls went %v", seen)
	}
}

// twoConfig keeps a second sidecar of the same application apart from the first one's socket.
func twoConfig(t *testing.T) string {
	path := t.TempDir() + "/two.yaml"
	text := "app: {id: echo}\napi: {socket: none}\nregistry: {default: {driver: file}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
