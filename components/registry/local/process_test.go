package local_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/local"
)

// What makes this test binary a sidecar: the data folder and the address to register.
const (
	childDir     = "OUTRIGGER_REGISTRY_TEST_DIR"
	childAddress = "OUTRIGGER_REGISTRY_TEST_ADDRESS"
)

var stock = registry.Service{Namespace: "shop", Name: "stock"}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := sidecar(dir, os.Getenv(childAddress)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// sidecar registers, says so, and waits until its standard input ends.
func sidecar(dir, address string) error {
	env := components.Env{ID: components.ID{Capability: "registry", Name: "default", Driver: "local"}, DataDir: dir,
		Logger: slog.New(slog.DiscardHandler), Shared: components.NewShared()}
	d, err := local.Open(context.Background(), env, local.Options{})
	if err != nil {
		return err
	}
	if err := d.Register(context.Background(), registry.Record{Service: stock, Address: address, Weight: 1}); err != nil {
		return err
	}
	fmt.Println("registered")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// process starts a sidecar of its own, and answers what kills it.
func process(t *testing.T, dir, address string) (p *os.Process, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childAddress+"="+address)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		stdin.Close()
	})
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "registered\n" {
		t.Fatalf("the sidecar says %q: %v", line, err)
	}
	return cmd.Process, kill
}

// view is a watch of the service.
type view struct {
	mu    sync.Mutex
	lists [][]string
}

func watch(t *testing.T, d registry.Driver) *view {
	v := &view{}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- d.Watch(ctx, stock, func(all []registry.Record) error {
			v.mu.Lock()
			defer v.mu.Unlock()
			var list []string
			for _, r := range all {
				list = append(list, r.Address)
			}
			v.lists = append(v.lists, list)
			return nil
		})
	}()
	t.Cleanup(func() { stop(); <-ended })
	return v
}

func (v *view) want(t *testing.T, want ...string) {
	t.Helper()
	var last []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		v.mu.Lock()
		if n := len(v.lists); n > 0 {
			last = v.lists[n-1]
		}
		v.mu.Unlock()
		if slices.Equal(last, want) {
			return
		}
	}
	t.Fatalf("the list is %q, want %q", last, want)
}

func put(t *testing.T, d registry.Driver, address string) {
	t.Helper()
	if err := d.Register(t.Context(), registry.Record{Service: stock, Address: address, Weight: 1}); err != nil {
		t.Fatal(err)
	}
}

func TestASidecarIsStoppedAndKilled(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, components.NewShared())
	v := watch(t, d)
	p, kill := process(t, dir, "10.0.0.1:1")
	v.want(t, "10.0.0.1:1")
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	v.want(t, "10.0.0.1:1")
	kill()
	v.want(t)
}

// TestTheOwnerIsKilled: its own records go after a while, those of others are listed throughout.
func TestTheOwnerIsKilled(t *testing.T) {
	dir := t.TempDir()
	_, kill := process(t, dir, "10.0.0.1:1")
	a, b := open(t, dir, components.NewShared()), open(t, dir, components.NewShared())
	put(t, a, "10.0.0.2:1")
	v := watch(t, b)
	v.want(t, "10.0.0.1:1", "10.0.0.2:1")
	kill()
	v.want(t, "10.0.0.2:1")
	put(t, a, "10.0.0.3:1")
	v.want(t, "10.0.0.2:1", "10.0.0.3:1")
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, list := range v.lists {
		if i > 0 && !slices.Contains(list, "10.0.0.2:1") {
			t.Errorf("list %d is %q: the living one is missing", i, list)
		}
	}
}

// TestTheOwnerEnds in order: its records are taken back, those of others are listed throughout.
func TestTheOwnerEnds(t *testing.T) {
	dir := t.TempDir()
	owner := open(t, dir, components.NewShared())
	a, b := open(t, dir, components.NewShared()), open(t, dir, components.NewShared())
	put(t, owner, "10.0.0.1:1")
	put(t, a, "10.0.0.2:1")
	v := watch(t, b)
	v.want(t, "10.0.0.1:1", "10.0.0.2:1")
	shut(t, owner)
	v.want(t, "10.0.0.2:1")
	put(t, a, "10.0.0.3:1") // by the next owner
	v.want(t, "10.0.0.2:1", "10.0.0.3:1")
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, list := range v.lists {
		if !slices.Contains(list, "10.0.0.2:1") {
			t.Errorf("list %d is %q: the living one is missing", i, list)
		}
	}
}
