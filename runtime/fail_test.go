package runtime_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/runtime"
)

// breakListener has accepting on a port of this process fail for good.
func breakListener(t *testing.T, address string) {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	for fd := range 4096 {
		listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err != nil || listens == 0 {
			continue
		}
		at, err := unix.Getsockname(fd)
		if in, ok := at.(*unix.SockaddrInet4); err == nil && ok && in.Port == port {
			if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no socket listens on %s", address)
}

// A sidecar that nobody can connect to any more does not stay as if it were well.
func TestListenerThatFailsEndsTheSidecar(t *testing.T) {
	for _, name := range []string{"inbound", "grpc", "http", "outbound"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, "drain: {propagation: 10ms}\n")
			breakListener(t, map[string]string{"inbound": s.inbound, "grpc": s.grpc, "http": s.http, "outbound": s.outbound}[name])
			if err := s.wait(t); err == nil || !strings.Contains(err.Error(), "the "+name+" listener failed") {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// A sidecar that starts has no components to reload yet; it says so at once.
func TestReloadBeforeItIsReady(t *testing.T) {
	const text = "secret: {s: {driver: file, required: true, options: {dir: %s}}}\nreload: {timeout: 100h}\n"
	dir := filepath.Join(t.TempDir(), "secrets")
	s := launch(t, strings.Replace(text, "%s", dir, 1))
	operator := s.operator(t)
	operator.Timeout = time.Minute
	reload := func() (code int, err error) {
		res, err := operator.Post("http://admin/reload", "", nil)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	eventually(t, func() error {
		res, err := operator.Get("http://admin/healthz")
		if err != nil {
			return err
		}
		return res.Body.Close()
	})
	if code, err := reload(); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("a reload before it is ready: %d, %v", code, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.becomeReady(t); err != nil {
		t.Fatal(err)
	}
	if code, err := reload(); err != nil || code != http.StatusOK {
		t.Errorf("a reload after that: %d, %v", code, err)
	}
}

// What is configured when the end begins counts, whatever it was at the start.
func TestDrainTimeThatWasReloaded(t *testing.T) {
	up := filepath.Join(t.TempDir(), "up")
	// It takes longer to end than the first configuration allows, with what is added for closing.
	s := start(t, "drain: {propagation: 10ms, max: 10ms}\n", "sh", "-c", `trap 'sleep 6; exit 7' TERM; : > "$0"; while :; do sleep 0.01; done`, up)
	eventually(t, func() error { _, err := os.Stat(up); return err })
	s.write(t, "drain: {propagation: 10ms, max: 50s}\n")
	eventually(t, func() error {
		if _, info := s.get("/info"); !strings.Contains(strings.ReplaceAll(info, " ", ""), `"generation":2`) {
			return errors.New(info)
		}
		return nil
	})
	s.signals <- syscall.SIGTERM
	var child *runtime.ChildExit
	if err := s.wait(t); !errors.As(err, &child) || child.Code != 7 {
		t.Errorf("ended with %v, want the application's own end", err)
	}
}

// A sidecar that waits for another one's sockets can be told to end.
func TestSignalWhileAFrozenSidecarIsAsked(t *testing.T) {
	s := &sidecar{dir: t.TempDir(), signals: make(chan os.Signal, 8), ended: make(chan error, 1)}
	s.path = filepath.Join(s.dir, "c.yaml")
	s.write(t, "drain: {propagation: 10ms}\n")
	run := filepath.Join(s.dir, "run", "default")
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	frozen, err := net.Listen("unix", filepath.Join(run, "stock.handover"))
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	s.run(t, true)
	asked, err := frozen.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	s.signals <- syscall.SIGTERM
	if err := s.wait(t); !errors.Is(err, runtime.ErrStart) || !strings.Contains(err.Error(), "before it was ready") {
		t.Errorf("ended with %v", err)
	}
}
