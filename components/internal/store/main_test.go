package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		os.Exit(child(dir, os.Getenv(childName)))
	}
	if dir := os.Getenv(strangerVariable); dir != "" {
		os.Exit(stranger(dir))
	}
	goleak.VerifyTestMain(m)
}

// ledger is a machine for tests: it writes entries down, and tells what was written.
type ledger struct{ space *db.Space }

type (
	entry   struct{ Key string }
	entered struct {
		ID    uint64
		Owner int
	}
	wait struct{ For time.Duration }
)

var (
	add     = store.Unary[entry, entered]{Name: "ledger/add"}
	read    = store.Unary[entry, entered]{Name: "ledger/read", Safe: true}
	fail    = store.Unary[entry, entered]{Name: "ledger/fail", Safe: true}
	linger  = store.Unary[wait, entered]{Name: "ledger/linger"}
	lingers = make(chan struct{}, 1) // that one has begun

	echo = store.Bidi[entry, entered]{Name: "ledger/echo"}
)

func init() {
	store.Register("ledger", func(_ context.Context, space *db.Space, _ *slog.Logger) (store.Machine, error) {
		return &ledger{space}, nil
	})
}

func (*ledger) Close() {}

func (l *ledger) Handlers(m *store.Mux) {
	add.Handle(m, l.add)
	read.Handle(m, l.read)
	fail.Handle(m, func(context.Context, entry) (entered, error) {
		inner := components.WithReason(fmt.Errorf("%w: too many", components.ErrExhausted), "TOO_MANY", "limit", "entries")
		return entered{}, components.WithReason(fmt.Errorf("adding: %w", inner), "", "operation", "3")
	})
	linger.Handle(m, func(ctx context.Context, in wait) (entered, error) {
		select {
		case lingers <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return entered{}, ctx.Err()
		case <-time.After(in.For):
			return entered{Owner: os.Getpid()}, nil
		}
	})
	talking.Handle(m, converse)
	echo.Handle(m, func(ctx context.Context, p store.Peer[entry, entered]) error {
		for {
			e, err := p.Recv()
			if err != nil {
				return nil
			}
			if e.Key == "bad" {
				return fmt.Errorf("%w: %q", components.ErrInvalid, e.Key)
			}
			if err := p.Send(entered{ID: uint64(len(e.Key)), Owner: os.Getpid()}); err != nil {
				return err
			}
		}
	})
}

func (l *ledger) add(ctx context.Context, in entry) (out entered, err error) {
	err = l.space.Update(ctx, db.Disk, func(tx *db.Tx) error {
		if _, there, err := tx.Get([]byte(in.Key)); err != nil || there {
			return errors.Join(err, components.ErrExists)
		}
		out = entered{tx.NextID(), os.Getpid()}
		tx.Set([]byte(in.Key), fmt.Append(nil, out.ID))
		return nil
	})
	return out, err
}

func (l *ledger) read(_ context.Context, in entry) (out entered, err error) {
	v := l.space.View()
	defer v.Close()
	value, there, err := v.Get([]byte(in.Key))
	if err != nil || !there {
		return out, errors.Join(err, components.ErrNotFound)
	}
	_, err = fmt.Sscan(string(value), &out.ID)
	return out, err
}

func join(t *testing.T, dataDir string) *store.Link {
	t.Helper()
	l, err := store.Join(t.Context(), components.Env{DataDir: dataDir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

const (
	childVariable = "OUTRIGGER_TEST_STORE"
	childName     = "OUTRIGGER_TEST_NAME"
)

// child is a process that writes to the ledger as fast as it can, and prints what was acknowledged and what was not.
func child(dir, name string) int {
	l, err := store.Join(context.Background(), components.Env{DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	defer l.Close()
	fmt.Println("ready")
	go func() { // until the parent has gone
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	for i := 0; ; i++ {
		key := fmt.Sprintf("%s-%d", name, i)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		begun := time.Now()
		out, err := add.Call(ctx, l, entry{key})
		cancel()
		took := time.Since(begun).Milliseconds()
		if err != nil {
			fmt.Println("refused", key, took, reason(err), strings.ReplaceAll(err.Error(), " ", "_"))
			time.Sleep(20 * time.Millisecond)
			continue
		}
		fmt.Println("acked", key, took, out.ID, out.Owner)
	}
}

func reason(err error) string {
	if d := (*components.Detail)(nil); errors.As(err, &d) {
		return string(d.Reason)
	}
	return "none"
}

// process is a child, and what it has said.
type process struct {
	*exec.Cmd
	mu    sync.Mutex
	lines [][]string
	ended chan struct{}
}

func spawn(t *testing.T, dir, name string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], "-test.run=^$"), ended: make(chan struct{})}
	p.Env = append(os.Environ(), childVariable+"="+dir, childName+"="+name)
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, strings.Fields(s.Text()))
			p.mu.Unlock()
		}
		_ = p.Wait() // it was killed
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill()
	<-p.ended
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// said are the lines that begin with a word, after so many of all.
func (p *process) said(word string, after int) (lines [][]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines[min(after, len(p.lines)):] {
		if len(l) > 0 && l[0] == word {
			lines = append(lines, l)
		}
	}
	return lines
}

func (p *process) soFar() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// await waits until it says a word, after so many lines.
func (p *process) await(t *testing.T, word string, after int) []string {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if lines := p.said(word, after); len(lines) > 0 {
			return lines[0]
		}
	}
	t.Fatalf("it did not say %q within 30 s; it said %v", word, p.lines[max(0, p.soFar()-5):])
	return nil
}
