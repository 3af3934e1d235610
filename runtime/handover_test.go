package runtime_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	"github.com/outrigger-mesh/outrigger/runtime"
)

const replaced = "cache: {default: {driver: memory}}\nconfig: {default: {driver: file}}\nregistry: {default: {driver: file}}\nmesh: {registry: default}\ndrain: {propagation: 50s, quiet: 200ms, max: 50s}\n"

// TestReplaced follows how a sidecar ends that another one has replaced: what is under way goes on, all else is the other's.
func TestReplaced(t *testing.T) {
	app := startApplication(t)
	s := start(t, fmt.Sprintf("app: {port: %d, protocol: http}\n", app.port)+replaced)
	eventually(t, func() error {
		if code, why := s.get("/readyz"); code != http.StatusOK {
			return errors.New(why)
		}
		return nil
	})
	peer := invocationv1.NewInvocationClient(dial(t, s.inbound))
	underWay := make(chan error, 1)
	go func() {
		_, err := peer.Invoke(within(t, 40*time.Second), &invocationv1.InvokeRequest{Service: "stock", Method: "slow"})
		underWay <- err
	}()
	<-app.arrived
	own := dial(t, s.grpc)
	watch, err := configv1.NewConfigClient(own).Watch(within(t, 50*time.Second), &configv1.WatchRequest{Keys: []string{"k"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}

	next := s.replacement(t)
	if next.grpc != s.grpc || next.http != s.http || next.outbound != s.outbound || next.inbound != s.inbound || next.admin != s.admin {
		t.Errorf("the new one says %s, the old one said %s", next.out.String(), s.out.String())
	}
	for err == nil {
		_, err = watch.Recv()
	}
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("a watch, which would never end, ended with %v", err)
	}
	if _, err := cachev1.NewCacheClient(own).Exists(within(t, 20*time.Second), &cachev1.ExistsRequest{Key: "k"}); err != nil {
		t.Error(err)
	}
	if code, why := next.get("/readyz"); code != http.StatusOK {
		t.Error(why)
	}
	if s.hasEnded() {
		t.Error("it ended before the call that was under way")
	}
	close(app.release)
	if err := <-underWay; err != nil {
		t.Error(err)
	}
	if err := s.wait(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
	began := time.Now()
	third := next.replacement(t)
	if err := next.wait(t); err != nil || time.Since(began) > 40*time.Second { // nobody has to hear of it
		t.Errorf("the second one ended with %v after %s", err, time.Since(began))
	}
	third.signals <- syscall.SIGTERM
	third.signals <- syscall.SIGTERM
	if err := third.wait(t); !errors.Is(err, runtime.ErrCut) {
		t.Errorf("the third one ended with %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "run", "default", "*")); len(left) != 1 || filepath.Base(left[0]) != "stock.sock.lock" {
		t.Errorf("left are %v", left)
	}
}

// TestReplacementEndedEarly leaves the old one as it was.
func TestReplacementEndedEarly(t *testing.T) {
	s := start(t, replaced)
	before, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(before) + "secret: {s: {driver: file, required: true, options: {dir: /no/such/folder}}}\nreload: {timeout: 100ms}\n"
	next := &sidecar{dir: s.dir, path: filepath.Join(s.dir, "next.yaml"), signals: make(chan os.Signal, 8), ended: make(chan error, 1)}
	next.write(t, text)
	next.run(t, true)
	if err := next.becomeReady(t); !errors.Is(err, runtime.ErrStart) || !strings.Contains(err.Error(), "/no/such/folder") {
		t.Fatalf("it ended with %v", err)
	}
	if code, why := s.get("/readyz"); code != http.StatusOK && !strings.Contains(why, "does not answer") {
		t.Error(why)
	}
	if res, err := s.operator(t).Get("http://localhost/info"); err != nil {
		t.Error(err)
	} else {
		res.Body.Close()
	}
	s.replacement(t)
	if err := s.wait(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
