package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// either is an application with the Go SDK that calls another one all the time, with a sidecar or without.
type either struct {
	t    *testing.T
	echo echopb.EchoClient
	load sync.WaitGroup

	through, directly atomic.Int64
	failed            atomic.Int64
	lost              atomic.Int64 // of those, calls that were under way when the sidecar was killed
	killed            atomic.Bool
}

const callers = 4

// unary makes a call; answers of sidecars say where they come from.
func (e *either) unary(ctx context.Context) (string, error) {
	var trailer metadata.MD
	out, err := e.echo.Unary(ctx, &echopb.Message{Text: "x"}, grpc.Trailer(&trailer))
	if err == nil && out.GetInstance() != "one" {
		err = fmt.Errorf("answered by %q", out.GetInstance())
	}
	return fmt.Sprint(trailer.Get("outrigger-origin")), err
}

func (e *either) stream(ctx context.Context) (string, error) {
	s, err := e.echo.Repeat(ctx, &echopb.Message{Text: "x", Times: 3})
	if err != nil {
		return "", err
	}
	for n := 0; ; n++ {
		if _, err = s.Recv(); errors.Is(err, io.EOF) && n == 3 {
			return fmt.Sprint(s.Trailer().Get("outrigger-origin")), nil
		} else if err != nil {
			return "", fmt.Errorf("after %d messages: %w", n, err)
		}
	}
}

func (e *either) run(ended <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-ended:
			return
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		call := e.unary
		if i%2 == 1 {
			call = e.stream
		}
		origin, err := call(ctx)
		cancel()
		switch {
		case err != nil && e.killed.Load() && client.Reason(err) == client.ReasonSidecarLost:
			e.lost.Add(1)
		case err != nil:
			e.failed.Add(1)
			e.t.Errorf("a call fails, reason %q, origin %q: %v", client.Reason(err), client.Origin(err), err)
		case origin == "[app]":
			e.through.Add(1)
		default:
			e.directly.Add(1)
		}
	}
}

// more waits for so many more calls on one way.
func (e *either) more(n *atomic.Int64, what string) {
	e.t.Helper()
	from := n.Load()
	harness.Eventually(e.t, 30*time.Second, func() error {
		if now := n.Load(); now < from+200 {
			return fmt.Errorf("%d calls %s", now-from, what)
		}
		return nil
	})
}

// One setting of the SDK: calls go directly while there is no sidecar, and through it when one is there. None fails on the way.
func TestWithOrWithoutASidecar(t *testing.T) {
	const config = "registry: {default: {driver: file}}\ndrain: {propagation: 10ms, quiet: 200ms, max: 2s}\n"
	dir := t.TempDir()
	app := harness.StartEcho(t, "one")
	harness.Start(t, harness.Options{App: "echo", AppPort: app.Port, DataDir: dir, Config: config})
	c, err := client.Dial(within(t, 20*time.Second), client.WithSocket(filepath.Join(dir, "run", "default", "caller.sock")),
		client.WithDirect(fmt.Sprint("echo=127.0.0.1:", app.Port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Cache("").Get(within(t, 20*time.Second), "k"); client.Reason(err) != client.ReasonSidecarUnavailable {
		t.Errorf("what only a sidecar can do, without one: %v", err)
	}
	e := &either{t: t, echo: echopb.NewEchoClient(c.Conn("echo"))}
	ended := make(chan struct{})
	for range callers {
		e.load.Go(func() { e.run(ended) })
	}
	end := sync.OnceFunc(func() { close(ended); e.load.Wait() })
	defer end()
	e.more(&e.directly, "directly, before there is a sidecar")
	start := func() *harness.Sidecar {
		return harness.Start(t, harness.Options{App: "caller", DataDir: dir, Config: config})
	}
	s := start()
	e.more(&e.through, "through the sidecar")
	if got := c.App(); got != "default/caller" {
		t.Errorf("the sidecar is that of %q", got)
	}
	s.Stop()
	e.more(&e.directly, "directly, after the sidecar has ended")
	s = start()
	e.more(&e.through, "through the next sidecar")
	e.killed.Store(true)
	s.Kill()
	e.more(&e.directly, "directly, after the sidecar was killed")
	end()
	if n := e.lost.Load(); n > callers {
		t.Errorf("%d calls were lost with the sidecar, %d can have been under way", n, callers)
	}
	t.Logf("%d calls directly, %d through sidecars, failed %d; lost when the sidecar was killed: %d", e.directly.Load(), e.through.Load(), e.failed.Load(), e.lost.Load())
}
