package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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
	return &caller{t: t, echo: echopb.NewEchoClient(conn)}
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

func shop(t *testing.T, callees, callers int) (all []*instance, clients []*caller) {
	config := "registry: {default: {driver: file, options: {dir: " + t.TempDir() + "}}}\ndrain: {max: 20s}\n"
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

// stuck is a sidecar's start that does not come to its end before mend.
type stuck struct {
	*harness.Sidecar
	dir string
}

func (i *instance) replaceStuck(t *testing.T) *stuck {
	t.Helper()
	s := &stuck{dir: filepath.Join(t.TempDir(), "secrets")}
	o := i.sidecar.Options
	o.Args = []string{"-replace"}
	o.Config += "secret: {s: {driver: file, required: true, options: {dir: " + s.dir + "}}}\nreload: {timeout: 1m}\n"
	var err error
	if s.Sidecar, err = harness.Launch(t, o); err != nil {
		t.Fatal(err)
	}
	return s
}

// asked waits until it has the sockets.
func (s *stuck) asked(t *testing.T, old *harness.Sidecar) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		if by := fmt.Sprintf("by_pid=%d", s.PID()); !strings.Contains(old.Output(), by) {
			return errors.New(by + " is not in the log of the old one")
		}
		return nil
	})
}

func (s *stuck) mend(t *testing.T) {
	t.Helper()
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err != nil {
		t.Fatal(err)
	}
}

// TestReplacementThatFails kills it at any moment before it is ready, and has it fail by itself; each time the old one goes on.
func TestReplacementThatFails(t *testing.T) {
	all, clients := shop(t, 1, 1)
	clients[0].load(300)
	for _, i := range all {
		old := i.sidecar
		for n := range 6 {
			s := i.replaceStuck(t)
			if n == 0 {
				s.asked(t, old)
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			s.Kill()
		}
		o := old.Options
		o.Args = []string{"-replace"}
		for want, config := range map[string]string{"unknown driver": "cache: {a: {driver: no}}\n", "/no/such": "reload: {timeout: 300ms}\nsecret: {s: {driver: file, required: true, options: {dir: /no/such}}}\n"} {
			o.Config = config
			if _, err := harness.TryStart(t, o); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "exit status 2") {
				t.Error(err)
			}
		}
		o.Args, o.Config = nil, old.Options.Config
		if _, err := harness.TryStart(t, o); err == nil || !strings.Contains(err.Error(), "another sidecar serves") {
			t.Errorf("the lock was lost: %v", err)
		}
		if _, err := os.Stat(old.Socket); err != nil {
			t.Error(err)
		}
		i.replaceAndWait(t)
	}
	clients[0].end(500)
}

// handover speaks as a new sidecar does, by the format that is documented.
type handover struct {
	t  *testing.T
	nc *net.UnixConn
}

func askForSockets(t *testing.T, s *harness.Sidecar) *handover {
	t.Helper()
	nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: strings.TrimSuffix(s.Socket, ".sock") + ".handover", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return &handover{t, nc}
}

func (h *handover) say(line string) {
	h.t.Helper()
	if _, err := h.nc.Write([]byte(line + "\n")); err != nil {
		h.t.Error(err)
	}
}

// hear reads a line and closes what comes with it.
func (h *handover) hear() (line string, descriptors int) {
	h.t.Helper()
	text, rights := make([]byte, 64<<10), make([]byte, 1<<10)
	h.nc.SetReadDeadline(time.Now().Add(30 * time.Second))
	n, k, _, _, err := h.nc.ReadMsgUnix(text, rights)
	if err != nil {
		h.t.Error(err)
	}
	controls, _ := syscall.ParseSocketControlMessage(rights[:k])
	for _, c := range controls {
		fds, _ := syscall.ParseUnixRights(&c)
		for _, fd := range fds {
			syscall.Close(fd)
			descriptors++
		}
	}
	return string(text[:n]), descriptors
}

// TestHandOverBrokenOff has the new one go at each step.
func TestHandOverBrokenOff(t *testing.T) {
	all, clients := shop(t, 1, 1)
	clients[0].load(300)
	for _, i := range all {
		for name, steps := range map[string]func(h *handover){
			"without a word": func(*handover) {},
			"after the hello": func(h *handover) {
				h.say(`{"handover":1}`)
			},
			"with the sockets": func(h *handover) {
				h.say(`{"handover":1,"version":"later","what":"is new"}`)
				line, n := h.hear()
				var offer struct{ Sockets []struct{ Name string } }
				if err := json.Unmarshal([]byte(line), &offer); err != nil || n != len(offer.Sockets) || n != 9 || offer.Sockets[n-1].Name != "lock" {
					t.Errorf("%d descriptors came with %s", n, line)
				}
			},
			"having said something else": func(h *handover) {
				h.say(`{"handover":1}`)
				h.hear()
				h.say(`{"handover":1,"taken":[]}`)
			},
			"having said nothing sensible": func(h *handover) {
				h.say(`{"handover":1}`)
				h.hear()
				h.say(`}`)
			},
			"in another format": func(h *handover) {
				h.say(`{"handover":2,"version":"9.9"}`)
				if line, n := h.hear(); n != 0 || !strings.Contains(line, "9.9") || !strings.Contains(line, `"error"`) {
					t.Errorf("%d descriptors came with %s", n, line)
				}
			},
		} {
			h := askForSockets(t, i.sidecar)
			steps(h)
			h.nc.Close()
			if err := dialCaller(t, all[1].sidecar.Outbound).call(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		i.replaceAndWait(t)
	}
	clients[0].end(200)
}

// TestPredecessorThatGoes ends the old one while the new one starts: what comes meanwhile waits for that.
func TestPredecessorThatGoes(t *testing.T) {
	for name, end := range map[string]func(*harness.Sidecar){
		"killed": (*harness.Sidecar).Kill, "ended in order": func(s *harness.Sidecar) { s.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			all, clients := shop(t, 1, 1)
			for _, i := range []*instance{all[1]} {
				old := i.sidecar
				next := i.replaceStuck(t)
				next.asked(t, old)
				end(old)
				called := make(chan error, 1)
				go func() { called <- dialCaller(t, old.Outbound).call() }()
				time.Sleep(100 * time.Millisecond)
				next.mend(t)
				if err := <-called; err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(old.Socket); err != nil {
					t.Error(err)
				}
				i.sidecar = next.Sidecar
			}
			harness.Eventually(t, 20*time.Second, clients[0].call)
		})
	}
}

// TestPublicationsPassOver: a watcher never sees the only instance missing, and what is published through either counts for both.
func TestPublicationsPassOver(t *testing.T) {
	all, clients := shop(t, 1, 1)
	callee, watcher := all[0], all[1].sidecar.Client()
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for r, err := range watcher.Registry().Watch(ctx, client.Service{Name: "echo"}) {
			if err == nil && len(r.Instances) != 1 {
				t.Errorf("a watcher is told %v", r.Instances)
			}
		}
	})
	publish := func(s *harness.Sidecar, name string) {
		if _, err := s.Client().Registry().Publish(within(t, 10*time.Second), client.Publication{Service: client.Service{Name: name}, Port: callee.app.Port}); err != nil {
			t.Error(err)
		}
	}
	publish(callee.sidecar, "early")
	next := callee.replaceStuck(t)
	old := callee.sidecar
	next.asked(t, old)
	publish(old, "late")
	next.mend(t)
	callee.sidecar = next.Sidecar
	publish(callee.sidecar, "new")
	old.Wait(time.Minute)
	time.Sleep(time.Second) // two checks of the registry
	for _, name := range []string{"early", "late", "new"} {
		(&pair{client: watcher}).published(t, name, 1)
	}
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

func TestReplaceNobody(t *testing.T) {
	s := harness.Start(t, harness.Options{App: "a", Args: []string{"-replace"}})
	s.Kill() // leaves its sockets
	s = harness.Start(t, harness.Options{App: "a", DataDir: s.DataDir, Args: []string{"-replace"}})
	if _, err := s.Client().Cache("").Exists(within(t, 10*time.Second), "k"); err != nil {
		t.Fatal(err)
	}
}

func TestReplaceRefused(t *testing.T) {
	parent := harness.Start(t, harness.Options{App: "a", Command: []string{"sleep", "60"}})
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
	parent.Kill()
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

// TestSocketsOfSystemd stops and starts sidecars whose sockets somebody else holds: no connection is refused in between.
func TestSocketsOfSystemd(t *testing.T) {
	config := "registry: {default: {driver: file, options: {dir: " + t.TempDir() + "}}}\ndrain: {propagation: 100ms, quiet: 100ms, max: 2s}\n"
	callee := startInstanceWith(t, "echo", "one", config)
	dir := t.TempDir()
	o := harness.Options{App: "caller", DataDir: dir, Config: config, Passed: map[string]*os.File{}}
	addresses := map[string]string{}
	for _, name := range []string{"outbound", "grpc", "socket"} {
		network, address := "tcp", "127.0.0.1:0"
		if name == "socket" {
			network, address = "unix", filepath.Join(dir, "run", "default", "caller.sock")
			if err := os.MkdirAll(filepath.Dir(address), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		addresses[name] = ln.Addr().String()
		f, err := ln.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		o.Passed[name] = f
	}
	s := harness.Start(t, o)
	if s.Outbound != addresses["outbound"] || s.GRPC != addresses["grpc"] {
		t.Fatalf("it listens on %s and %s, it was passed %v", s.Outbound, s.GRPC, addresses)
	}
	(&pair{client: s.Client()}).published(t, "echo", 1)
	for range 2 {
		if code := s.Stop(); code != 0 {
			t.Errorf("exit code %d\n%s", code, s.Output())
		}
		called := make(chan error, 2)
		go func() { called <- dialCaller(t, addresses["outbound"]).call() }()
		nc, err := net.Dial("unix", addresses["socket"])
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
		s = harness.Start(t, o)
		if err := <-called; err != nil {
			t.Error(err)
		}
	}
	_ = callee
	o.Passed = map[string]*os.File{"grpcc": o.Passed["grpc"]}
	o.App = "other"
	if _, err := harness.TryStart(t, o); err == nil || !strings.Contains(err.Error(), "FileDescriptorName=") || !strings.Contains(err.Error(), "exit status 2") {
		t.Error(err)
	}
}
