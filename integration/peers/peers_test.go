// Package peers runs gRPC implementations other than Go's through two sidecars: the path of a call is application, its
// sidecar, the other application's sidecar, other application. Each language has one program in a folder of its own, which is
// the client or the server as its arguments say; the Go side is the application that every other test uses.
//
// Each language's packages are installed on the first run into a cache folder outside the source tree: OUTRIGGER_CACHE,
// else outrigger in the user's cache folder. What cannot be installed fails the test.
package peers

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestPeers(t *testing.T) {
	t.Log("feature: grpc, stock clients and servers")
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel() // most of a language's time is spent on waiting: for idle connections to stay, for old ones to end
			dir := l.Prepare(t)
			t.Run("client", func(t *testing.T) { testClient(t, l, dir) })
			t.Run("restart", func(t *testing.T) { testRestart(t, l, dir) })
			t.Run("server", func(t *testing.T) { testServer(t, l, dir) })
			t.Run("max age", func(t *testing.T) { testMaxAge(t, l, dir) })
		})
	}
	t.Run("curl", testCurl)
}

// cases are what each client does and each server is asked, by these names. They are one list for all languages, so that none
// can leave one out.
var cases = []string{
	"unary 1 KiB", "unary 3 MiB", "metadata", "status", "origin", "deadline", "cancel", "client stream", "server stream", "bidi",
	"concurrent", "large header", "gzip", "idle",
}

// callerConfig has the sidecar leave soon when it is restarted under an application that goes on calling.
const callerConfig = `
cache: {default: {driver: memory}}
registry: {default: {driver: file}}
drain: {propagation: 200ms, max: 1s}
`

// startPair starts the sidecar of an application called echo, which serves on the port, and that of a caller who has found it.
func startPair(t *testing.T, port int) *harness.Sidecar {
	t.Helper()
	dir := t.TempDir()
	harness.Start(t, harness.Options{App: "echo", AppPort: port, DataDir: dir})
	caller := harness.Start(t, harness.Options{App: "caller", DataDir: dir, Config: callerConfig})
	registry := caller.Client().Registry()
	harness.Eventually(t, 20*time.Second, func() error {
		r, err := registry.Resolve(t.Context(), client.Service{Name: "echo"})
		if err == nil && len(r.Instances) != 1 {
			err = fmt.Errorf("%d instances", len(r.Instances))
		}
		return err
	})
	return caller
}
