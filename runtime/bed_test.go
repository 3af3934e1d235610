package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	_ "github.com/outrigger-mesh/outrigger/components/all"
	"github.com/outrigger-mesh/outrigger/runtime"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sidecar is one that runs in the test's process.
type sidecar struct {
	grpc, http, outbound, inbound, admin string // HOST:PORT
	dir, path                            string
	signals                              chan os.Signal
	ended                                chan error
	out                                  lockedText
}

type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

var readyLine = regexp.MustCompile(`is ready: app \S+, grpc (\S+), http (\S+), outbound (\S+), inbound (\S+), admin (\S+), pid`)

// launch runs a sidecar on a configuration.
func launch(t *testing.T, text string, command ...string) *sidecar {
	t.Helper()
	s := &sidecar{dir: t.TempDir(), signals: make(chan os.Signal, 8), ended: make(chan error, 1)}
	s.path = filepath.Join(s.dir, "c.yaml")
	s.write(t, text)
	s.run(t, false, command...)
	return s
}

// replacement takes over from s, with the same settings.
func (s *sidecar) replacement(t *testing.T) *sidecar {
	t.Helper()
	next := &sidecar{dir: s.dir, path: s.path, signals: make(chan os.Signal, 8), ended: make(chan error, 1)}
	next.run(t, true)
	if err := next.becomeReady(t); err != nil {
		t.Fatal(err)
	}
	return next
}

func (s *sidecar) run(t *testing.T, replace bool, command ...string) {
	t.Helper()
	zero := 0
	load := func() (*config.Config, error) {
		return config.Load(s.path, config.Overrides{AppID: "stock", DataDir: s.dir, GRPCPort: &zero, HTTPPort: &zero, AdminPort: &zero, InboundPort: &zero, OutboundPort: &zero}, config.Environment{})
	}
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		s.ended <- runtime.Run(ctx, runtime.Options{Config: c, Load: load, Signals: s.signals, Version: "test", Command: command, Out: &s.out, Replace: replace})
	}()
	t.Cleanup(func() { // whatever the test has made of it
		cancel()
		s.signals <- syscall.SIGTERM
		s.signals <- syscall.SIGTERM
		s.wait(t)
	})
}

// begin waits until the sidecar that it runs is ready or has ended.
func begin(t *testing.T, text string, command ...string) (*sidecar, error) {
	t.Helper()
	s := launch(t, text, command...)
	return s, s.becomeReady(t)
}

func (s *sidecar) becomeReady(t *testing.T) error {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if m := readyLine.FindStringSubmatch(s.out.String()); m != nil {
			s.grpc, s.http, s.outbound, s.inbound, s.admin = m[1], m[2], m[3], m[4], m[5]
			return nil
		}
		select {
		case err := <-s.ended:
			s.ended <- err
			return err
		default:
		}
		if time.Now().After(late) {
			t.Fatal("the sidecar is not ready")
		}
	}
}

func start(t *testing.T, text string, command ...string) *sidecar {
	t.Helper()
	s, err := begin(t, text, command...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sidecar) write(t *testing.T, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(s.path+".new", []byte(text), 0o600), os.Rename(s.path+".new", s.path)); err != nil {
		t.Fatal(err)
	}
}

// wait answers how the run ended; it may be asked more than once.
func (s *sidecar) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		s.ended <- err
		return err
	case <-time.After(60 * time.Second):
		t.Fatal("the sidecar does not end")
		return nil
	}
}

func (s *sidecar) hasEnded() bool {
	select {
	case err := <-s.ended:
		s.ended <- err
		return true
	default:
		return false
	}
}

// get reads from admin.
func (s *sidecar) get(path string) (code int, text string) {
	res, err := http.Get("http://" + s.admin + path)
	if err != nil {
		return 0, err.Error()
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(body)
}

// shows waits until admin shows each of these texts at a path.
func (s *sidecar) shows(t *testing.T, path string, want ...string) {
	t.Helper()
	eventually(t, func() error {
		_, said := s.get(path)
		for _, one := range want {
			if !strings.Contains(said, one) {
				return fmt.Errorf("%s does not show %s:\n%s", path, one, said)
			}
		}
		return nil
	})
}

func eventually(t *testing.T, ask func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// operator is a client of the operators' socket.
func (s *sidecar) operator(t *testing.T) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(s.dir, "run", "default", "stock.admin.sock"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// application is an HTTP server that answers /slow when it is let to.
type application struct {
	port    int
	arrived chan struct{}
	release chan struct{}
}

func startApplication(t *testing.T) *application {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &application{port: ln.Addr().(*net.TCPAddr).Port, arrived: make(chan struct{}, 10), release: make(chan struct{})}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slow") {
			a.arrived <- struct{}{}
			select {
			case <-a.release:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(w, "hello")
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() { server.Close(); <-done })
	return a
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
