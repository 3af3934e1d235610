package client_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// alone takes from the environment what could lead to a sidecar of somebody else's, and answers the data folder and an
// address that stands for the default port.
func alone(t *testing.T) (dir, fallback string) {
	t.Helper()
	dir = folder(t)
	for _, name := range []string{"OUTRIGGER_SOCKET", "OUTRIGGER_GRPC_ADDR", "OUTRIGGER_APP_ID", "OUTRIGGER_APP_NAMESPACE", "OUTRIGGER_TOKEN"} {
		t.Setenv(name, "")
	}
	t.Setenv("OUTRIGGER_DATA_DIR", dir)
	fallback, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return dir, fallback
}

func socket(t *testing.T, dir, namespace, app string) string {
	t.Helper()
	run := filepath.Join(dir, "run", namespace)
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(run, app+".sock")
}

func TestDialOrder(t *testing.T) {
	dir, fallback := alone(t)
	withDefault := client.WithDefaultAddress(fallback)
	found := func(want string, opts ...client.Option) {
		t.Helper()
		if got := dial(t, append(opts, withDefault)...).Address(); got != want {
			t.Errorf("found %s, want %s", got, want)
		}
	}

	start(t, newWorld(), fallback)
	found(fallback)

	one := socket(t, dir, "default", "orders")
	start(t, newWorld(), one)
	found("unix:" + one) // the only socket

	two := socket(t, dir, "shop", "stock")
	start(t, newWorld(), two)
	found(fallback) // which of two it is nobody knows

	t.Setenv("OUTRIGGER_APP_ID", "orders")
	found("unix:" + one)
	t.Setenv("OUTRIGGER_APP_NAMESPACE", "shop")
	found(fallback)
	found("unix:"+two, client.WithApp("", "stock"))

	address := start(t, newWorld(), "127.0.0.1:0").target
	t.Setenv("OUTRIGGER_GRPC_ADDR", address)
	found(address)
	path := filepath.Join(dir, "my.sock")
	start(t, newWorld(), path)
	t.Setenv("OUTRIGGER_SOCKET", path)
	found("unix:" + path)

	found("unix:"+one, client.WithSocket(one))
	found(address, client.WithAddress(""), client.WithAddress(address))
}

func TestDialChoosesTheSocketThatIsAlive(t *testing.T) {
	dir, fallback := alone(t)
	stale := socket(t, dir, "default", "gone")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // as a process that was killed leaves it
	l.Close()
	live := socket(t, dir, "default", "orders")
	start(t, newWorld(), live)
	if got := dial(t, client.WithDefaultAddress(fallback)).Address(); got != "unix:"+live {
		t.Errorf("found %s", got)
	}
}

func TestNoSidecar(t *testing.T) {
	dir, fallback := alone(t)
	withDefault := client.WithDefaultAddress(fallback)
	for name, test := range map[string]struct {
		env  map[string]string
		opts []client.Option
		want []string
		not  string
	}{
		"nothing":    {want: []string{dir + "/run", "OUTRIGGER_APP_ID", fallback + " (default port): connection refused"}},
		"app":        {env: map[string]string{"OUTRIGGER_APP_ID": "orders"}, want: []string{"run/default/orders.sock (socket of default/orders): no such file", "default port"}},
		"bad app":    {env: map[string]string{"OUTRIGGER_APP_ID": "../../etc"}, want: []string{"DNS labels"}},
		"address":    {opts: []client.Option{client.WithAddress(fallback)}, want: []string{fallback + " (address given): connection refused"}, not: "default port"},
		"no address": {opts: []client.Option{client.WithAddress("here")}, want: []string{"here (address given): not HOST:PORT"}, not: "default port"},
		"socket":     {opts: []client.Option{client.WithSocket(dir + "/x")}, want: []string{"unix:" + dir + "/x (socket given): no such file"}, not: "default port"},
		"port":       {opts: []client.Option{client.WithPort(70000)}, want: []string{`127.0.0.1:70000 (port given): "70000" is not a port`}, not: "default port"},
		"environment": {env: map[string]string{"OUTRIGGER_SOCKET": dir + "/y", "OUTRIGGER_GRPC_ADDR": fallback},
			want: []string{"/y (OUTRIGGER_SOCKET): no such file", fallback + " (OUTRIGGER_GRPC_ADDR): connection refused"}, not: "default port"},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			_, err := client.Dial(within(t), append(test.opts, withDefault)...)
			if !errors.Is(err, client.ErrNoSidecar) {
				t.Fatalf("error %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if test.not != "" && strings.Contains(err.Error(), test.not) {
				t.Errorf("%q was tried: %v", test.not, err)
			}
		})
	}
}

func TestDialLeavesOtherSidecarsAlone(t *testing.T) {
	_, fallback := alone(t)
	w := newWorld()
	w.app = "shop/stock"
	start(t, w, fallback)
	t.Setenv("OUTRIGGER_APP_ID", "orders")
	_, err := client.Dial(within(t), client.WithDefaultAddress(fallback))
	if !errors.Is(err, client.ErrNoSidecar) || !strings.Contains(err.Error(), "it is the sidecar of shop/stock") {
		t.Fatalf("error %v", err)
	}
	if app := dial(t, client.WithDefaultAddress(fallback), client.WithApp("shop", "stock")).App(); app != "shop/stock" {
		t.Errorf("app %q", app)
	}
	if app := dial(t, client.WithAddress(fallback)).App(); app != "shop/stock" { // named outright
		t.Errorf("app %q", app)
	}
	t.Setenv("OUTRIGGER_GRPC_ADDR", fallback) // with which OUTRIGGER_APP_ID does not agree
	if _, err := client.Dial(within(t)); !errors.Is(err, client.ErrNoSidecar) || !strings.Contains(err.Error(), "it is the sidecar of shop/stock") {
		t.Errorf("error %v", err)
	}
}

// A sidecar of another application that takes the default port while the own one is away is left alone, and the own one is found when it is back.
func TestClientsLeaveOtherSidecarsAlone(t *testing.T) {
	_, fallback := alone(t)
	t.Setenv("OUTRIGGER_APP_ID", "orders")
	for name, opts := range map[string][]client.Option{"found by Dial": nil, "found later": {client.WithDirect("stock=127.0.0.1:1")}} {
		t.Run(name, func(t *testing.T) {
			own, other := newWorld(), newWorld()
			own.app, other.app = "default/orders", "default/stock"
			opts = append(opts, client.WithDefaultAddress(fallback), client.WithGrace(300*time.Millisecond))
			var f *fake
			if name == "found by Dial" {
				f = start(t, own, fallback)
			}
			c := dial(t, opts...)
			if f == nil {
				f = start(t, own, fallback)
			}
			if err := c.Wait(within(t)); err != nil {
				t.Fatal(err)
			}
			f.drain()
			f = start(t, other, fallback)
			if _, err := c.Cache("").Exists(within(t), "a"); !errors.Is(err, client.ErrUnavailable) || !strings.Contains(err.Error(), "it is the sidecar of default/stock") {
				t.Errorf("error %v", err)
			}
			f.drain()
			start(t, own, fallback)
			if err := c.Wait(within(t)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Cache("").Exists(within(t), "a"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDialWantsASidecar(t *testing.T) {
	bare := grpc.NewServer()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- bare.Serve(l) }()
	t.Cleanup(func() { bare.Stop(); <-served })

	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)

	silent, err := net.Listen("tcp", "127.0.0.1:0") // connects, and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })

	for want, address := range map[string]string{
		"no health service": l.Addr().String(),
		"it does not speak gRPC: connection error: desc = \"error reading server preface": web.Listener.Addr().String(),
		"no answer": silent.Addr().String(),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := client.Dial(ctx, client.WithAddress(address))
		if !errors.Is(err, client.ErrNoSidecar) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, have %v", want, err)
		}
	}
}

func TestDialLeavesTimeForTheOthers(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	f := start(t, newWorld(), "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, client.WithAddress(silent.Addr().String()), client.WithAddress(f.target))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Address() != f.target {
		t.Errorf("found %s", c.Address())
	}
}

func TestDialWaits(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := client.Dial(ctx, client.WithSocket(path), client.WithWait())
	if !errors.Is(err, client.ErrNoSidecar) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no such file") {
		t.Fatalf("error %v", err)
	}

	type result struct {
		c   *client.Client
		err error
	}
	dialled := make(chan result)
	go func() {
		c, err := client.Dial(within(t), client.WithSocket(path), client.WithWait())
		dialled <- result{c, err}
	}()
	select {
	case r := <-dialled:
		t.Fatalf("dialled nothing: %v", r.err)
	case <-time.After(200 * time.Millisecond):
	}
	start(t, newWorld(), path)
	r := <-dialled
	if r.err != nil {
		t.Fatal(r.err)
	}
	r.c.Close()
}

// A try that the end of the context cuts short must not hide what the ones before found out.
func TestDialTellsTheBestReason(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		if conn, err := l.Accept(); err == nil {
			conn.Close()
		} // and the next one is let wait
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = client.Dial(ctx, client.WithAddress(l.Addr().String()), client.WithWait())
	if !errors.Is(err, client.ErrNoSidecar) || strings.Contains(err.Error(), "no answer") || !strings.Contains(err.Error(), "while waiting for one") {
		t.Errorf("error %v", err)
	}
}

func TestDialDoesNotWaitForWhatIsNoAddress(t *testing.T) {
	alone(t)
	if _, err := client.Dial(within(t), client.WithAddress("here"), client.WithWait()); !errors.Is(err, client.ErrNoSidecar) || strings.Contains(err.Error(), "while waiting") {
		t.Errorf("error %v", err)
	}
}

func TestFind(t *testing.T) {
	dir, fallback := alone(t)
	t.Setenv("OUTRIGGER_APP_ID", "orders")
	w := newWorld()
	w.app = "default/orders"
	start(t, w, fallback)
	tried, err := client.Find(within(t), client.WithDefaultAddress(fallback))
	if err != nil || len(tried) != 2 {
		t.Fatalf("tried %v: %v", tried, err)
	}
	if tried[0].Err == nil || tried[0].Address != "unix:"+dir+"/run/default/orders.sock" {
		t.Errorf("first %+v", tried[0])
	}
	if last := tried[1]; last.Err != nil || last.Address != fallback || last.App != "default/orders" || last.Source != "default port" {
		t.Errorf("last %+v", last)
	}
	if tried, err := client.Find(within(t), client.WithSocket(dir+"/x")); !errors.Is(err, client.ErrNoSidecar) || len(tried) != 1 {
		t.Errorf("tried %v: %v", tried, err)
	}
}

func TestToken(t *testing.T) {
	dir, _ := alone(t)
	w := newWorld()
	w.token = "first"
	f := start(t, w, "127.0.0.1:0")

	_, err := client.Dial(within(t), client.WithAddress(f.target))
	if !errors.Is(err, client.ErrNoSidecar) || !errors.Is(err, client.ErrUnauthenticated) || !strings.Contains(err.Error(), "it refuses this client") {
		t.Fatalf("without a token: %v", err)
	}
	dial(t, client.WithAddress(f.target), client.WithToken("first"))
	t.Setenv("OUTRIGGER_TOKEN", "first")
	dial(t, client.WithAddress(f.target))
	t.Setenv("OUTRIGGER_TOKEN", "")

	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "token"), []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	c := dial(t, client.WithAddress(f.target))

	f.drain() // and there is a new one
	w.mu.Lock()
	w.token = "second"
	w.mu.Unlock()
	write("second")
	start(t, w, f.target)
	if _, err := c.Cache("").Exists(within(t), "a"); err != nil {
		t.Errorf("after the token changed: %v", err)
	}
}

// TestTokenIsForItsOwner: on the default port and at sockets that were found, the token goes to a listener of the own user or
// root alone; where the address or the token was given it is theirs who gave it to know.
func TestTokenIsForItsOwner(t *testing.T) {
	dir, fallback := alone(t)
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("t"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	w.token = "t"
	path := socket(t, dir, "default", "orders")
	for _, f := range []*fake{start(t, w, fallback), start(t, w, path)} {
		opts := []client.Option{client.WithDefaultAddress(fallback)}
		if f.target == path {
			opts = append(opts, client.WithApp("", "orders"))
		} else {
			opts = append(opts, client.WithApp("", "nobody"))
		}
		dial(t, opts...)

		var asked []uint32
		var log strings.Builder
		stranger := append(opts, client.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
			client.WithTrust(func(uid uint32) bool { asked = append(asked, uid); return false }))
		_, err := client.Dial(within(t), stranger...)
		if !errors.Is(err, client.ErrUnauthenticated) || !strings.Contains(log.String(), "token is not sent") {
			t.Errorf("%s: of a stranger: %v, log %q", f.target, err, log.String())
		}
		if len(asked) == 0 || int(asked[0]) != os.Geteuid() {
			t.Errorf("%s: the listener is taken for one of %v", f.target, asked)
		}
		dial(t, append(stranger, client.WithToken("t"))...)
		named := client.WithAddress(f.target)
		if f.target == path {
			named = client.WithSocket(path)
		}
		dial(t, append(stranger, named)...)
	}
}
