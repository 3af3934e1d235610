package runtime_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
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

// TestDraining follows the end of a sidecar step by step.
func TestDraining(t *testing.T) {
	app := startApplication(t)
	s := start(t, fmt.Sprintf("app: {port: %d, protocol: http}\ncache: {default: {driver: memory}}\nconfig: {default: {driver: file}}\nregistry: {default: {driver: file}}\nmesh: {registry: default}\ndrain: {propagation: 1s, max: 50s}\n", app.port))
	eventually(t, func() error {
		if code, why := s.get("/readyz"); code != http.StatusOK {
			return errors.New(why)
		}
		return nil
	})
	peer := invocationv1.NewInvocationClient(dial(t, s.inbound))
	invoke := func(method string) error {
		_, err := peer.Invoke(within(t, 40*time.Second), &invocationv1.InvokeRequest{Service: "stock", Method: method})
		return err
	}
	underWay := make(chan error, 1)
	go func() { underWay <- invoke("slow") }()
	<-app.arrived
	own := dial(t, s.grpc)
	watch, err := configv1.NewConfigClient(own).Watch(within(t, 50*time.Second), &configv1.WatchRequest{Keys: []string{"k"}})
	if err != nil {
		t.Fatal(err)
	}
	use := func() error {
		_, err := cachev1.NewCacheClient(own).Exists(within(t, 20*time.Second), &cachev1.ExistsRequest{Key: "k"})
		return err
	}
	if err := use(); err != nil {
		t.Fatal(err)
	}

	s.signals <- syscall.SIGTERM
	eventually(t, func() error { // not ready at once, for others
		if code, why := s.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(why, "draining") {
			return fmt.Errorf("%d %s", code, why)
		}
		return nil
	})
	if err := invoke("quick"); err != nil { // who has not heard yet is served
		t.Errorf("during propagation: %v", err)
	}
	eventually(t, func() error { // then nobody new is let in
		nc, err := net.Dial("tcp", s.inbound)
		if err != nil {
			return nil
		}
		nc.Close()
		return errors.New("inbound still accepts")
	})
	if code, why := s.get("/readyz/outbound"); code != http.StatusOK {
		t.Errorf("the application may use the sidecar, but: %d %s", code, why)
	}
	if err := use(); err != nil {
		t.Errorf("a new call of the application: %v", err)
	}
	close(app.release)
	if err := <-underWay; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
	time.Sleep(300 * time.Millisecond)
	if err := use(); err != nil || s.hasEnded() {
		t.Errorf("the application has not gone, but the sidecar has: %v", err)
	}
	own.Close()
	if err := s.wait(t); err != nil {
		t.Errorf("ended with %v", err)
	}
	if _, err := watch.Recv(); err == nil {
		_, err = watch.Recv()
		if err == nil {
			t.Error("the stream goes on")
		}
	}
}

func TestStreamsEndWithAReason(t *testing.T) {
	s := start(t, "config: {default: {driver: file}}\ndrain: {propagation: 10ms, max: 300ms}\n")
	watch, err := configv1.NewConfigClient(dial(t, s.grpc)).Watch(within(t, 50*time.Second), &configv1.WatchRequest{Keys: []string{"k"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	s.signals <- syscall.SIGTERM // the application keeps its connection: drain.max ends it
	for err == nil {
		_, err = watch.Recv()
	}
	if status.Code(err) != codes.Unavailable || !strings.Contains(fmt.Sprint(status.Convert(err).Details()), "DRAINING") {
		t.Errorf("the stream ended with %v", err)
	}
	if err := s.wait(t); err != nil {
		t.Errorf("ended with %v", err)
	}
}

// An application that speaks HTTP is there as long as it keeps a connection.
func TestHTTPConnectionsHoldTheEnd(t *testing.T) {
	s := start(t, "cache: {default: {driver: memory}}\ndrain: {propagation: 10ms, max: 50s}\n")
	client := &http.Client{Transport: &http.Transport{}}
	use := func() error {
		res, err := client.Post("http://"+s.http+"/outrigger.cache.v1.Cache/Exists", "application/json", strings.NewReader(`{"key":"k"}`))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s %s %v", res.Status, text, err)
		}
		return nil
	}
	if err := use(); err != nil {
		t.Fatal(err)
	}
	s.signals <- syscall.SIGTERM
	time.Sleep(500 * time.Millisecond)
	if err := use(); err != nil || s.hasEnded() {
		t.Errorf("the application has not gone, but the sidecar has: %v", err)
	}
	client.CloseIdleConnections()
	if err := s.wait(t); err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestSecondSignalCutsTheEndShort(t *testing.T) {
	s := start(t, "drain: {propagation: 100h, max: 100h}\n", "sh", "-c", `trap "" TERM; while :; do sleep 0.05; done`)
	s.signals <- syscall.SIGTERM
	time.Sleep(100 * time.Millisecond)
	if s.hasEnded() {
		t.Fatal("it does not drain")
	}
	s.signals <- syscall.SIGINT
	err := s.wait(t)
	var child *runtime.ChildExit
	if !errors.Is(err, runtime.ErrCut) || !errors.As(err, &child) || child.Code != 128+9 {
		t.Fatalf("ended with %v", err)
	}
}

func TestOperatorDrains(t *testing.T) {
	s := start(t, "drain: {propagation: 10ms}\n")
	res, err := s.operator(t).Post("http://admin/drain", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if err := s.wait(t); err != nil {
		t.Fatal(err)
	}
}

// Nobody is waited for when there is no application any more.
func TestApplicationThatEndsByItself(t *testing.T) {
	for script, code := range map[string]int{"exit 0": 0, "sleep 0.3; exit 7": 7, "kill -9 $$": 137} {
		t.Run(script, func(t *testing.T) {
			s, _ := begin(t, "registry: {default: {driver: file}}\nmesh: {registry: default}\ndrain: {propagation: 100h, max: 100h}\n", "sh", "-c", script)
			err := s.wait(t)
			if only, ok := err.(*runtime.ChildExit); !ok || only.Code != code {
				t.Fatalf("ended with %v, want code %d and nothing else", err, code)
			}
		})
	}
}

func TestSignalsReachTheApplication(t *testing.T) {
	up := filepath.Join(t.TempDir(), "up")
	s := start(t, "drain: {propagation: 10ms}\n", "sh", "-c", `trap 'echo usr1 >> "$0"' USR1; trap 'exit 3' INT; trap 'exit 4' TERM; echo up > "$0"; while :; do sleep 0.01; done`, up)
	has := func(text string) {
		t.Helper()
		eventually(t, func() error {
			if got, err := os.ReadFile(up); err != nil || !strings.Contains(string(got), text) {
				return fmt.Errorf("the application has written %q, %v", got, err)
			}
			return nil
		})
	}
	has("up")
	s.signals <- syscall.SIGUSR1
	has("usr1")
	s.signals <- syscall.SIGINT // the same is passed on
	var child *runtime.ChildExit
	if err := s.wait(t); !errors.As(err, &child) || child.Code != 3 {
		t.Fatalf("ended with %v", err)
	}
}

func TestSockets(t *testing.T) {
	s := start(t, "cache: {default: {driver: memory}}\n")
	for name, mode := range map[string]os.FileMode{"": 0o700, "stock.sock": 0o600, "stock.admin.sock": 0o600} {
		info, err := os.Stat(filepath.Join(s.dir, "run", "default", name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want %o", name, info.Mode(), err, mode)
		}
	}
	if _, err := begin(t, fmt.Sprintf("app: {namespace: %s}\n", strings.Repeat("n", 63))); !errors.Is(err, runtime.ErrStart) ||
		!strings.Contains(err.Error(), "107") || !strings.Contains(err.Error(), "-data-dir") {
		t.Errorf("a path that is too long: %v", err)
	}
}

func TestReloadIsAllOrNothing(t *testing.T) {
	const before = "secret: {s: {driver: file}}\ntelemetry: {log: {level: warn}}\n"
	s := start(t, before)
	level := func() string { _, text := s.get("/log/level"); return strings.TrimSpace(text) }
	has := func(generation int, fault string) {
		t.Helper()
		eventually(t, func() error {
			_, info := s.get("/info")
			info = strings.ReplaceAll(info, " ", "")
			if !strings.Contains(info, fmt.Sprintf(`"generation":%d`, generation)) || strings.Contains(info, `"last_error":"components`) != (fault != "") || !strings.Contains(info, fault) {
				return errors.New(info)
			}
			return nil
		})
	}
	reload := func() (int, string) {
		res, err := s.operator(t).Post("http://admin/reload", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var text bytes.Buffer
		text.ReadFrom(res.Body)
		return res.StatusCode, text.String()
	}
	if level() != "warn" {
		t.Fatal(level())
	}
	s.write(t, "secret: {s: {driver: file, options: {dir: /no/such/folder}}}\ntelemetry: {log: {level: error}}\n")
	has(1, "/no/such/folder") // the file was seen to change
	if level() != "warn" {
		t.Errorf("half of it was taken over: the level is %s", level())
	}
	if code, text := reload(); code < 400 || !strings.Contains(text, "/no/such/folder") {
		t.Errorf("the operator is told %d %s", code, text)
	}
	s.write(t, before) // mended; nothing is new
	s.signals <- syscall.SIGHUP
	has(1, "")
	s.write(t, "secret: {s: {driver: file}}\ntelemetry: {log: {level: error}}\n")
	has(2, "")
	if level() != "error" {
		t.Errorf("the level is %s", level())
	}
	if code, text := reload(); code != http.StatusOK {
		t.Errorf("the operator is told %d %s", code, text)
	}
	has(2, "")
}
