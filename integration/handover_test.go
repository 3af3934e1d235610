package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// replace starts a sidecar in the place of the one that runs, and answers that one.
func (i *instance) replace(t *testing.T) (old *harness.Sidecar) {
	t.Helper()
	old = i.sidecar
	o := old.Options
	o.Args = []string{"-replace"}
	i.sidecar = harness.Start(t, o)
	if i.sidecar.GRPC != old.GRPC || i.sidecar.Inbound != old.Inbound {
		t.Errorf("the new one serves on %s and %s, the old one on %s and %s", i.sidecar.GRPC, i.sidecar.Inbound, old.GRPC, old.Inbound)
	}
	return old
}

// replaceAndWait does so until the old one has ended.
func (i *instance) replaceAndWait(t *testing.T) {
	t.Helper()
	old := i.replace(t)
	if code := old.Wait(time.Minute); code != 0 {
		t.Errorf("exit code %d\n%s", code, old.Output())
	}
}

// caller is a client as plain as grpc-go makes them: no SDK, no waiting for ready, no retries but its own.
type caller struct {
	t             *testing.T
	address       string
	echo          echopb.EchoClient
	stop          context.CancelFunc
	calls, failed atomic.Int64
	work          sync.WaitGroup
}

func dialCaller(t *testing.T, address string) *caller {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{t: t, address: address, echo: echopb.NewEchoClient(conn)}
}

func toEcho(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "outrigger-service", "echo")
}

func (p *caller) call() error {
	ctx, end := context.WithTimeout(toEcho(context.Background()), 20*time.Second)
	defer end()
	_, err := p.echo.Unary(ctx, &echopb.Message{Text: "x"})
	return err
}

// load calls so often a second, and with streams, until end.
func (p *caller) load(perSecond int) {
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	p.work.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			p.work.Go(func() { p.count(p.call()) })
		}
	})
	p.work.Go(func() {
		for ctx.Err() == nil {
			p.count(p.stream())
		}
	})
	for range 2 {
		p.work.Go(func() { // a connection for each call, so that some are made at each moment
			for ctx.Err() == nil {
				p.count(once(p.address))
			}
		})
	}
}

func once(address string) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig())
	if err != nil {
		return err
	}
	defer conn.Close()
	return (&caller{echo: echopb.NewEchoClient(conn)}).call()
}

// stream is one that takes half a second.
func (p *caller) stream() error {
	ctx, end := context.WithTimeout(toEcho(context.Background()), 20*time.Second)
	defer end()
	s, err := p.echo.Repeat(ctx, &echopb.Message{Times: 50, WaitMs: 10})
	for n := 0; err == nil; n++ {
		if _, err = s.Recv(); errors.Is(err, io.EOF) && n != 50 {
			return fmt.Errorf("the stream ended after %d messages", n)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (p *caller) count(err error) {
	if p.calls.Add(1); err != nil && p.failed.Add(1) < 10 {
		p.t.Errorf("%s: failed: %v", time.Now().Format("05.000"), err)
	}
}

func (p *caller) end(atLeast int64) {
	p.t.Helper()
	p.stop()
	p.work.Wait()
	fmt.Printf("%s: calls %d failed %d\n", p.t.Name(), p.calls.Load(), p.failed.Load())
	if p.calls.Load() < atLeast {
		p.t.Errorf("only %d calls were made", p.calls.Load())
	}
}

// http is the plainest client of HTTP/1.1: it keeps its connection until it is told to close it, and sends nothing twice.
func (p *caller) http(address string) {
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	p.work.Go(func() {
		var nc net.Conn
		var in *bufio.Reader
		for ctx.Err() == nil {
			var err error
			if nc == nil {
				if nc, err = net.Dial("tcp", address); err != nil {
					p.count(err)
					return
				}
				in = bufio.NewReader(nc)
			}
			io.WriteString(nc, "POST /outrigger.cache.v1.Cache/Exists HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"key\":\"a\"}")
			res, err := http.ReadResponse(in, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			if err == nil && res.StatusCode != http.StatusOK {
				err = errors.New(res.Status)
			}
			p.count(err)
			if err != nil || res.Close {
				nc.Close()
				nc = nil
			}
			time.Sleep(2 * time.Millisecond)
		}
		if nc != nil {
			nc.Close()
		}
	})
}

func TestReplaceUnderHTTP(t *testing.T) {
	all, clients := shop(t, 0, 1)
	clients[0].http(all[0].sidecar.HTTP)
	for range 3 {
		all[0].replaceAndWait(t)
	}
	clients[0].end(100)
}

func shop(t *testing.T, callees, callers int) (all []*instance, clients []*caller) {
	return shopIn(t, t.TempDir(), callees, callers)
}

func settings(registry string) string {
	return "registry: {default: {driver: file, options: {dir: " + registry + "}}}\ncache: {default: {driver: memory}}\ndrain: {max: 20s}\n"
}

func shopIn(t *testing.T, registry string, callees, callers int) (all []*instance, clients []*caller) {
	config := settings(registry)
	for n := range callees {
		all = append(all, startInstanceWith(t, "echo", fmt.Sprint(n), config))
	}
	for range callers {
		i := startInstanceWith(t, "caller", "", config)
		(&pair{client: i.sidecar.Client()}).published(t, "echo", callees)
		all = append(all, i)
		clients = append(clients, dialCaller(t, i.sidecar.Outbound))
	}
	return all, clients
}

// TestReplaceEachInTurn replaces each sidecar of two callers and two callees, twice, while plain clients call.
func TestReplaceEachInTurn(t *testing.T) {
	all, clients := shop(t, 2, 2)
	for _, c := range clients {
		c.load(250)
	}
	for range 2 {
		for _, i := range all {
			i.replaceAndWait(t)
		}
	}
	for _, c := range clients {
		c.end(500)
	}
}

// TestReplaceTheOnlyOne has one instance of each.
func TestReplaceTheOnlyOne(t *testing.T) {
	all, clients := shop(t, 1, 1)
	clients[0].load(500)
	for range 3 {
		for _, i := range all {
			i.replaceAndWait(t)
		}
	}
	clients[0].end(1000)
}

// TestStreamOverAReplacement has one go on for longer than it takes to replace both sidecars that it passes.
func TestStreamOverAReplacement(t *testing.T) {
	all, clients := shop(t, 1, 1)
	s, err := clients[0].echo.Repeat(toEcho(within(t, time.Minute)), &echopb.Message{Times: 300, WaitMs: 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	old := []*harness.Sidecar{all[0].replace(t), all[1].replace(t)}
	if err := clients[0].call(); err != nil {
		t.Error(err)
	}
	for n := 1; ; n++ {
		if _, err := s.Recv(); errors.Is(err, io.EOF) && n == 300 {
			break
		} else if err != nil {
			t.Fatalf("after %d messages: %v", n, err)
		}
	}
	for _, s := range old {
		if code := s.Wait(time.Minute); code != 0 {
			t.Errorf("exit code %d\n%s", code, s.Output())
		}
	}
}

// TestPublicationsPassOver: a watcher never sees the only instance missing, and what is published through either counts for both.
func TestPublicationsPassOver(t *testing.T) {
	dir := t.TempDir()
	all, clients := shopIn(t, dir, 1, 1)
	callee, watcher := all[0], all[1].sidecar.Client()
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watch := func(name string) {
		watching.Go(func() {
			for r, err := range watcher.Registry().Watch(ctx, client.Service{Name: name}) {
				if err == nil && len(r.Instances) != 1 {
					t.Errorf("a watcher is told of %s: %v", name, r.Instances)
				}
			}
		})
	}
	watch("echo")
	publish := func(s *harness.Sidecar, name string) {
		if _, err := s.Client().Registry().Publish(within(t, 10*time.Second), client.Publication{Service: client.Service{Name: name}, Port: callee.app.Port}); err != nil {
			t.Error(err)
		}
	}
	publish(callee.sidecar, "early")
	old, o := callee.sidecar, callee.sidecar.Options
	folder := filepath.Join(t.TempDir(), "registry") // it leads nowhere first, and the new one cannot announce what it has read
	if err := os.Symlink("/dev/null", folder); err != nil {
		t.Fatal(err)
	}
	o.Args, o.Config = []string{"-replace"}, settings(folder)+"reload: {timeout: 1m}\n"
	next, err := harness.Launch(t, o)
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 30*time.Second, func() error {
		if !strings.Contains(next.Output(), "not told of the service") {
			return errors.New(next.Output())
		}
		return nil
	})
	publish(old, "late")
	(&pair{client: watcher}).published(t, "late", 1)
	watch("late")
	time.Sleep(500 * time.Millisecond)
	if err := errors.Join(os.Symlink(dir, folder+".new"), os.Rename(folder+".new", folder), next.Ready()); err != nil {
		t.Fatal(err)
	}
	callee.sidecar = next
	if code := old.Wait(time.Minute); code != 0 {
		t.Errorf("exit code %d\n%s", code, old.Output())
	}
	time.Sleep(time.Second) // two checks of the registry
	for _, name := range []string{"early", "late"} {
		(&pair{client: watcher}).published(t, name, 1)
	}
	publish(next, "new")
	(&pair{client: watcher}).published(t, "new", 1)
	if err := clients[0].call(); err != nil {
		t.Error(err)
	}
	stop()
	watching.Wait()
}

// TestReplaceWithOtherSettings binds anew what has another address, and forgets services that are not declared any more.
func TestReplaceWithOtherSettings(t *testing.T) {
	all, _ := shop(t, 1, 1)
	old := all[1].sidecar
	o := old.Options
	port := strconv.Itoa(harness.FreePort(t))
	o.Args = []string{"-replace", "-http-port", port}
	o.Config += "admin: {probes: \"127.0.0.1:0\"}\n"
	s := harness.Start(t, o)
	if old.Wait(time.Minute) != 0 || s.HTTP != "127.0.0.1:"+port || s.GRPC != old.GRPC {
		t.Errorf("on %s and %s, the old one was on %s and %s\n%s", s.GRPC, s.HTTP, old.GRPC, old.HTTP, old.Output())
	}
	if nc, err := net.Dial("tcp", old.HTTP); err == nil {
		nc.Close()
		t.Error("the old HTTP port is still open")
	}
	if err := dialCaller(t, s.Outbound).call(); err != nil {
		t.Error(err)
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(s.Socket); err == nil {
		t.Error("the socket is left behind")
	}
}

// TestReplaceWithAnotherInboundPort has other sidecars call elsewhere before the old address is closed.
func TestReplaceWithAnotherInboundPort(t *testing.T) {
	all, clients := shop(t, 1, 1)
	clients[0].load(300)
	old := all[0].sidecar
	for range 2 {
		o := old.Options
		o.Args = []string{"-replace", "-inbound-port", strconv.Itoa(harness.FreePort(t))}
		next := harness.Start(t, o)
		if code := old.Wait(time.Minute); code != 0 || next.Inbound == old.Inbound {
			t.Errorf("exit code %d, at %s, was at %s\n%s", code, next.Inbound, old.Inbound, old.Output())
		}
		old = next
	}
	clients[0].end(500)
}

func TestReplaceNobody(t *testing.T) {
	s := harness.Start(t, harness.Options{App: "a", Args: []string{"-replace"}})
	s.Kill() // leaves its sockets
	s = harness.Start(t, harness.Options{App: "a", DataDir: s.DataDir, Args: []string{"-replace"}})
	if _, err := s.Client().Cache("").Exists(within(t, 10*time.Second), "k"); err != nil {
		t.Fatal(err)
	}
}

func TestReplaceRefused(t *testing.T) {
	parent := harness.Start(t, harness.Options{App: "a", Command: []string{"sleep", "60"}, Config: "drain: {propagation: 100ms}\n"})
	for want, o := range map[string]harness.Options{
		"must stay its parent": {App: "a", DataDir: parent.DataDir},
		"does not go with":     {App: "b", Command: []string{"sleep", "1"}},
		"api.socket: none":     {App: "b", Config: "api: {socket: none}\n"},
	} {
		o.Args = []string{"-replace"}
		if _, err := harness.TryStart(t, o); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "exit status 2") {
			t.Errorf("want %q: %v", want, err)
		}
	}
	parent.Stop() // to have the command ended too
}

// TestQueueOfReplacements: who comes while another one takes over is served by that one.
func TestQueueOfReplacements(t *testing.T) {
	all, clients := shop(t, 1, 1)
	i := all[1]
	old := i.sidecar
	first := i.replaceStuck(t)
	first.asked(t, old)
	second := i.replaceStuck(t)
	first.mend(t)
	second.asked(t, first.Sidecar)
	second.mend(t)
	if old.Wait(time.Minute) != 0 || first.Wait(time.Minute) != 0 {
		t.Errorf("%s\n%s", old.Output(), first.Output())
	}
	if err := clients[0].call(); err != nil {
		t.Error(err)
	}
}
