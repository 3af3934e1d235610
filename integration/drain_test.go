package integration

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// instance is one of an application's, with a sidecar that can be restarted at the same place.
type instance struct {
	app     *harness.Echo
	sidecar *harness.Sidecar
}

func startInstance(t *testing.T, app, name, registry string) *instance {
	return startInstanceWith(t, app, name, "registry: {default: {driver: file, options: {dir: "+registry+"}}}\ndrain: {propagation: 500ms, max: 1s}\n")
}

func startInstanceWith(t *testing.T, app, name, config string) *instance {
	i := &instance{}
	port := 0
	if app == "echo" {
		i.app = harness.StartEcho(t, name)
		port = i.app.Port
	}
	i.sidecar = harness.Start(t, harness.Options{App: app, AppPort: port, Config: config})
	return i
}

// restart ends the sidecar in order and starts another in its place.
func (i *instance) restart(t *testing.T) {
	t.Helper()
	if code := i.sidecar.Stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, i.sidecar.Output())
	}
	i.sidecar = harness.Start(t, i.sidecar.Options)
}

// TestRollingRestart restarts each sidecar of two callers and two callees in turn while calls go on.
func TestRollingRestart(t *testing.T) {
	registry := t.TempDir()
	all := []*instance{startInstance(t, "echo", "one", registry), startInstance(t, "echo", "two", registry),
		startInstance(t, "caller", "", registry), startInstance(t, "caller", "", registry)}
	clients := []*client.Client{all[2].sidecar.Client(), all[3].sidecar.Client()}
	for _, c := range clients {
		(&pair{client: c}).published(t, "echo", 2)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var calls, failed atomic.Int64
	for _, c := range clients {
		echo := echopb.NewEchoClient(c.Conn("echo"))
		wg.Go(func() { // 250 calls a second each
			tick := time.NewTicker(4 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				wg.Go(func() {
					limit, end := context.WithTimeout(context.Background(), 20*time.Second)
					defer end()
					_, err := echo.Unary(limit, &echopb.Message{Text: "x"})
					if calls.Add(1); err != nil && failed.Add(1) < 10 {
						t.Errorf("call failed: %v", err)
					}
				})
			}
		})
	}
	for _, i := range all {
		i.restart(t)
		time.Sleep(time.Second)
	}
	cancel()
	wg.Wait()
	fmt.Printf("rolling restart: calls %d failed %d\n", calls.Load(), failed.Load())
	if calls.Load() < 1000 {
		t.Fatalf("only %d calls were made", calls.Load())
	}
}

func TestGapOfTheOnlyInstance(t *testing.T) {
	registry := t.TempDir()
	callee := startInstance(t, "echo", "one", registry)
	caller := startInstance(t, "caller", "", registry)
	p := &pair{client: caller.sidecar.Client()}
	p.published(t, "echo", 1)
	echo := echopb.NewEchoClient(p.client.Conn("echo"))
	callee.sidecar.Kill()
	for range 20 {
		began := time.Now()
		_, err := echo.Unary(within(t, 5*time.Second), &echopb.Message{})
		if status.Code(err) != codes.Unavailable || client.Reason(err) == "" || time.Since(began) > 5*time.Second {
			t.Fatalf("after %s: %v with reason %q", time.Since(began), err, client.Reason(err))
		}
	}
	callee.sidecar = harness.Start(t, callee.sidecar.Options)
	harness.Eventually(t, 20*time.Second, func() error {
		_, err := echo.Unary(within(t, 5*time.Second), &echopb.Message{})
		return err
	})
}

func TestCalleeStoppedInMidStream(t *testing.T) {
	p := newPair(t)
	s, err := p.echo.Repeat(within(t, 30*time.Second), &echopb.Message{Times: 1 << 20, WaitMs: 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	p.callee.Kill()
	for err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.Unavailable || client.Reason(err) == "" {
		t.Fatalf("the stream ended with %v, reason %q", err, client.Reason(err))
	}
}

// TestQuietApplicationDoesNotHoldTheEnd stops a sidecar whose application keeps its connection, as it does when it does not
// know of the end.
func TestQuietApplicationDoesNotHoldTheEnd(t *testing.T) {
	s := harness.Start(t, harness.Options{App: "a", Config: "cache: {default: {driver: memory}}\ndrain: {propagation: 100ms, quiet: 500ms, max: 50s}\n"})
	if _, err := s.Client().Cache("").Exists(within(t, 10*time.Second), "k"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if code := s.Stop(); code != 0 || time.Since(began) > 30*time.Second {
		t.Fatalf("exit code %d after %s\n%s", code, time.Since(began), s.Output())
	}
}
