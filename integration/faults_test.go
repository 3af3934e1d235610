package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, flag := range []string{"-grpc-port", "-http-port", "-admin-port", "-inbound-port", "-outbound-port"} {
		t.Run(flag, func(t *testing.T) {
			args := []string{"run", "-app-id", "a", "-data-dir", t.TempDir()}
			for _, f := range []string{"-grpc-port", "-http-port", "-admin-port", "-inbound-port", "-outbound-port"} {
				if f != flag {
					args = append(args, f, "0")
				}
			}
			var out []byte
			fastest := time.Hour
			for range 3 { // the machine may be busy with something else
				began := time.Now()
				var err error
				out, err = exec.Command(harness.Binary(t), append(args, flag, port)...).CombinedOutput()
				fastest = min(fastest, time.Since(began))
				exit, ok := err.(*exec.ExitError)
				if !ok || exit.ExitCode() != 2 {
					t.Fatalf("got %v, want exit code 2\n%s", err, out)
				}
			}
			if fastest > time.Second {
				t.Errorf("it took %s to say so, three times", fastest)
			}
			for _, want := range []string{port, flag, "integration.test", "0 picks"} { // the port, who holds it, and the flag
				if !strings.Contains(string(out), want) {
					t.Errorf("the message does not say %q:\n%s", want, out)
				}
			}
		})
	}
}

// TestAddressInUse: ports that only the configuration names are refused alike, and the message says which of them it is.
func TestAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	const registry = "registry: {default: {driver: file}}\n"
	for setting, config := range map[string]string{
		"admin.probes":                "admin: {probes: '%s'}\n",
		"mesh.outbound.tcp.1.address": registry + "mesh: {outbound: {tcp: [{service: a, address: '127.0.0.1:0'}, {service: b, address: '%s'}]}}\n",
		"mesh.sofarpc.control":        registry + "mesh: {sofarpc: {control: '%s', outbound: '127.0.0.1:0'}}\n",
		"mesh.sofarpc.outbound":       registry + "mesh: {sofarpc: {control: '127.0.0.1:0', outbound: '%s'}}\n",
	} {
		t.Run(setting, func(t *testing.T) {
			s, err := harness.Launch(t, harness.Options{App: "a", Config: fmt.Sprintf(config, ln.Addr())})
			if err != nil {
				t.Fatal(err)
			}
			if code := s.Wait(time.Minute); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			for _, want := range []string{ln.Addr().String(), setting, "integration.test"} {
				if !strings.Contains(s.Output(), want) {
					t.Errorf("the message does not say %q:\n%s", want, s.Output())
				}
			}
		})
	}
}

// A port that a sidecar has may be that of the one to be replaced; the folder of a store that it uses is not restored to.
func TestWhatAnotherSidecarHas(t *testing.T) {
	dir := t.TempDir()
	s := harness.Start(t, harness.Options{App: "a", DataDir: dir})
	_, port, _ := net.SplitHostPort(s.GRPC)
	for _, c := range []struct {
		want string
		code int
		args []string
	}{
		{"-replace takes its place", 2, []string{"run", "-app-id", "a", "-data-dir", t.TempDir(), "-grpc-port", port, "-http-port", "0", "-admin-port", "0", "-inbound-port", "0", "-outbound-port", "0"}},
		{"restore to another data folder", 1, []string{"store", "restore", "-data-dir", dir, t.TempDir()}},
	} {
		out, err := exec.Command(harness.Binary(t), c.args...).CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: %v, want exit code %d and %q:\n%s", c.args[:2], err, c.code, c.want, out)
		}
	}
}

// TestCalleeFaults calls an application that is not as it should be.
func TestCalleeFaults(t *testing.T) {
	refusing := harness.FreePort(t) // nobody listens
	hanging := harness.Listen(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	garbage := harness.Listen(t, func(nc net.Conn) {
		nc.Write([]byte("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n and more that no client of gRPC expects"))
		io.Copy(io.Discard, nc)
	})
	slamming := harness.Listen(t, func(nc net.Conn) {})
	for _, c := range []struct {
		name string
		port int
		want codes.Code
	}{
		{"refusing", refusing, codes.Unavailable},
		{"hanging", hanging, codes.DeadlineExceeded},
		{"garbage", garbage, codes.Internal}, // it will be the same the next time
		{"slamming", slamming, codes.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			callee := harness.Start(t, harness.Options{App: "echo", AppPort: c.port, DataDir: dir})
			caller := harness.Start(t, harness.Options{App: "caller", DataDir: dir})
			publish(t, callee, dir, "echo") // a port that refuses is never announced by the sidecar itself
			echo := echopb.NewEchoClient(caller.Client().Conn("echo"))
			var err error
			for range 3 { // on a busy machine the client's own timer may be first, which has no reason, but not each time
				_, err = echo.Unary(within(t, 3*time.Second), &echopb.Message{})
				if status.Code(err) != c.want || client.Reason(err) != "" {
					break
				}
			}
			if status.Code(err) != c.want || client.Reason(err) == "" { // what grpc-go itself says at the deadline has no reason
				t.Fatalf("got %v, reason %q; want %v and a reason", err, client.Reason(err), c.want)
			}
		})
	}
}

// publish calls the callee's inbound port straight when its application cannot be announced.
func publish(t *testing.T, callee *harness.Sidecar, dir, service string) {
	t.Helper()
	helper := harness.StartEcho(t, "helper") // answers the probe of a second sidecar, which announces the first one's address
	cfg := fmt.Sprintf("app: {id: %s-helper, port: %d}\nregistry: {default: {driver: file, options: {dir: %s}}}\nmesh: {inbound: {advertise: %q}}\n",
		service, helper.Port, filepath.Join(dir, "registry"), callee.Inbound)
	h := harness.Start(t, harness.Options{App: service + "-helper", AppPort: helper.Port, Config: cfg})
	c := h.Client()
	if _, err := c.Registry().Publish(within(t, 10*time.Second), client.Publication{Service: client.Service{Name: service}, Port: helper.Port}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 20*time.Second, func() error {
		r, err := c.Registry().Resolve(within(t, 5*time.Second), client.Service{Name: service})
		if err == nil && len(r.Instances) == 0 {
			err = fmt.Errorf("no instance yet")
		}
		return err
	})
}

func TestServiceThatCallsItselfForEver(t *testing.T) {
	app := harness.StartEcho(t, "loop")
	s := harness.Start(t, harness.Options{App: "echo", AppPort: app.Port})
	app.Sidecar = s.Client()
	p := &pair{client: app.Sidecar}
	p.published(t, "echo", 1)
	_, err := echopb.NewEchoClient(p.client.Conn("echo")).Unary(within(t, 20*time.Second), &echopb.Message{Next: "echo"})
	if status.Code(err) != codes.FailedPrecondition || client.Reason(err) != "TOO_MANY_HOPS" {
		t.Fatalf("got %v, reason %q", err, client.Reason(err))
	}
	if n := app.Calls.Load(); n > 20 {
		t.Fatalf("the application was called %d times", n)
	}
}

func TestNoRoute(t *testing.T) {
	s := harness.Start(t, harness.Options{App: "caller"})
	c := s.Client()
	_, err := echopb.NewEchoClient(c.Conn("nowhere")).Unary(within(t, 10*time.Second), &echopb.Message{})
	if status.Code(err) != codes.Unavailable || client.Reason(err) != "NO_INSTANCE" || !strings.Contains(err.Error(), "default/nowhere") {
		t.Fatalf("unknown service: %v, reason %q", err, client.Reason(err))
	}
	_, err = echopb.NewEchoClient(c.API()).Unary(within(t, 10*time.Second), &echopb.Message{})
	if status.Code(err) != codes.InvalidArgument || client.Reason(err) != "SERVICE_UNNAMED" || !strings.Contains(err.Error(), "outrigger-service") {
		t.Fatalf("no service named: %v, reason %q", err, client.Reason(err))
	}
}

func TestForgedHeadersAreTakenOut(t *testing.T) {
	p := newPair(t, "telemetry: {access_log: stdout}\n")
	ctx := metadata.AppendToOutgoingContext(within(t, 10*time.Second), "outrigger-source", "default/admin", "outrigger-hops", "0")
	if _, err := p.echo.Unary(ctx, &echopb.Message{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 10*time.Second, func() error {
		for line := range strings.Lines(p.callee.Output()) {
			if strings.Contains(line, "direction=inbound") {
				if strings.Contains(line, "source=default/caller") && !strings.Contains(line, "admin") {
					return nil
				}
				return fmt.Errorf("access log: %s", line)
			}
		}
		return fmt.Errorf("no access log line of the call")
	})
}

// TestOtherUserIsRefused runs a client as another user of the machine.
func TestOtherUserIsRefused(t *testing.T) {
	if syscall.Geteuid() != 0 {
		t.Fatal("this test starts a process as another user, for which it must run as root")
	}
	s := harness.Start(t, harness.Options{App: "a"})
	cmd := exec.Command("curl", "-sS", "-o", "-", "-w", " %{http_code}", "-H", "content-type: application/json", "-d", `{"key":"k"}`, "http://"+s.HTTP+"/outrigger.cache.v1.Cache/Get")
	own, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(own), "KEY_NOT_FOUND") {
		t.Fatalf("own user: %v %s", err, own)
	}
	cmd = exec.Command(cmd.Args[0], cmd.Args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	other, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(other), "TOKEN_REQUIRED") {
		t.Fatalf("another user: %v %s", err, other)
	}
}

// raise lifts the limit of open files of this process, which the sidecars inherit.
func raise(t *testing.T, n uint64) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < n {
		limit.Cur, limit.Max = n, max(limit.Max, n)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatalf("this test needs %d open files: %v", n, err)
		}
	}
}

func TestClientGoneInMidStream(t *testing.T) {
	p := newPair(t)
	conn, err := grpc.NewClient(p.caller.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), "outrigger-service", "echo")
	s, err := echopb.NewEchoClient(conn).Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&echopb.Message{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	harness.Eventually(t, 10*time.Second, func() error { return atLeast(p.app.Canceled.Load(), 1) })
}

func TestHTTPOnTheInboundPort(t *testing.T) {
	s := harness.Start(t, harness.Options{App: "a"})
	res, err := http.Get("http://" + s.Inbound + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusNotFound || res.Header.Get("outrigger-reason") != "SERVICE_NOT_HERE" || !strings.Contains(string(text), "default/a") {
		t.Fatalf("%s: %s", res.Status, text)
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	p := newPair(t)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 50 {
				if _, err := p.echo.Unary(within(t, 30*time.Second), &echopb.Message{Data: make([]byte, 1024)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := p.app.Calls.Load(); n != 64*50 {
		t.Fatalf("the application saw %d calls of %d", n, 64*50)
	}
}
