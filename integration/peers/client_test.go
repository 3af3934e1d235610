package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // the application takes compressed messages
	"google.golang.org/grpc/stats"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
)

const clientTime = 3 * time.Minute

// result is a line that a client prints: how a case went.
type result struct {
	Case string
	OK   bool
	Seen string
}

// testClient lets the language's client call the Go application by metadata, over the loopback port and over the unix socket, and at the
// outbound port by the channel's authority.
func testClient(t *testing.T, l *language, dir string) {
	app := startApp(t)
	caller := startPair(t, app.port)
	for _, c := range []struct {
		name   string
		target []string
	}{{"tcp", []string{caller.GRPC}}, {"unix", []string{"unix://" + caller.Socket}}, {"authority", []string{caller.Outbound, "echo"}}} {
		t.Run(c.name, func(t *testing.T) {
			canceled, zipped := app.echo.Canceled.Load(), app.zipped.Load()
			results := l.call(t, dir, append([]string{"client"}, c.target...)...)
			if v := results["version"]; v.OK {
				t.Logf("client %s", v.Seen)
			}
			cases := slices.Clone(cases)
			if len(c.target) == 1 {
				cases = append(cases, "cache", "cache large") // of the sidecar's own API, which is not at the outbound port
			}
			for _, name := range cases {
				t.Run(name, func(t *testing.T) { check(t, results, name) })
			}
			harness.Eventually(t, 20*time.Second, func() error { // the calls of "deadline" and "cancel"
				if n := app.echo.Canceled.Load() - canceled; n != 2 {
					return fmt.Errorf("%d calls were cancelled at the application, want 2", n)
				}
				return nil
			})
			if n := app.zipped.Load() - zipped; n != 1 {
				t.Errorf("%d requests came compressed to the application, want 1", n)
			}
		})
	}
}

// testRestart ends the sidecar of a client that calls all the time, and starts it anew: no call may fail.
func testRestart(t *testing.T, l *language, dir string) {
	app := startApp(t)
	caller := startPair(t, app.port)
	restarted := make(chan int64, 1) // how many calls there had been then
	go func() {
		defer func() { restarted <- app.echo.Calls.Load() }()
		for began := app.echo.Calls.Load(); app.echo.Calls.Load() < began+100 && t.Context().Err() == nil; {
			time.Sleep(20 * time.Millisecond) // until the client is well under way
		}
		if code := caller.Stop(); code != 0 {
			t.Errorf("the sidecar ended with %d\n%s", code, caller.Output())
		}
		o := caller.Options
		_, port, _ := net.SplitHostPort(caller.GRPC)
		o.Args = []string{"-grpc-port", port}
		if _, err := harness.TryStart(t, o); err != nil {
			t.Error(err)
		}
	}()
	results := l.call(t, dir, "steady", caller.GRPC, "10")
	if before := <-restarted; app.echo.Calls.Load() == before {
		t.Error("no call came through the new sidecar")
	}
	check(t, results, "restart")
}

func check(t *testing.T, results map[string]result, name string) {
	t.Helper()
	switch r, ran := results[name]; {
	case !ran:
		t.Fatal("the client did not run this case")
	case !r.OK:
		t.Fatal(r.Seen)
	default:
		t.Log(r.Seen)
	}
}

// call runs the client to its end and answers what it printed, by case.
func (l *language) call(t *testing.T, dir string, args ...string) map[string]result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTime)
	defer cancel()
	cmd := l.Command(ctx, dir, args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Errorf("the client ended with %v\n%s", err, log.Bytes())
	}
	results := map[string]result{}
	for line := range strings.Lines(out.String()) {
		var r result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Errorf("the client printed %q: %v", line, err)
		}
		results[r.Case] = r
	}
	return results
}

// app is the Go application.
type app struct {
	echo   *harness.Echo
	port   int
	zipped atomic.Int64 // requests that came compressed
}

func startApp(t *testing.T) *app {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{echo: &harness.Echo{Instance: "go"}, port: ln.Addr().(*net.TCPAddr).Port}
	server := grpc.NewServer(grpc.StatsHandler(a))
	echopb.RegisterEchoServer(server, a.echo)
	go server.Serve(ln)
	t.Cleanup(server.Stop)
	return a
}

func (a *app) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (a *app) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (a *app) HandleConn(context.Context, stats.ConnStats)                       {}

func (a *app) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InHeader); ok && in.Compression == "gzip" {
		a.zipped.Add(1)
	}
}
