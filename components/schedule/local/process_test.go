package local_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// childDir makes this test binary a sidecar that does nothing but own the store in a data folder.
const childDir = "OUTRIGGER_SCHEDULE_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := own(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func own(dir string) error {
	options, err := schedule.Drivers.Decode("local", func(any) error { return nil })
	if err != nil {
		return err
	}
	if _, err := schedule.Drivers.Open(context.Background(), "local", env(dir, components.NewShared(), io.Discard), options); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// owner starts one, and answers what kills it.
func owner(t *testing.T, dir string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
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
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the owner says %q: %v", line, err)
	}
	return kill
}

// TestTheOwnerIsKilled while jobs fall due: each of them fires, none early, under one id however often it is tried.
func TestTheOwnerIsKilled(t *testing.T) {
	const jobs = 60
	dir := t.TempDir()
	kill := owner(t, dir)
	d := process(t, dir).Open()
	t.Cleanup(func() {
		if err := d.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	begin := time.Now().Add(time.Second)
	for i := range jobs {
		j := schedule.Job{Name: fmt.Sprintf("shop/orders/%02d", i), Trigger: schedule.Trigger{At: begin.Add(time.Duration(i) * 50 * time.Millisecond)}}
		if _, err := d.Create(t.Context(), j, false); err != nil {
			t.Fatal(err)
		}
	}
	killed := time.AfterFunc(time.Until(begin.Add(time.Second)), kill)
	defer killed.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ids := map[string]string{}
	for len(ids) < jobs && ctx.Err() == nil {
		session, err := d.Watch(ctx, schedule.Watching{Application: "shop/orders/", AckDeadline: time.Minute})
		if err != nil {
			time.Sleep(50 * time.Millisecond) // nobody has taken over yet
			continue
		}
		for err == nil && len(ids) < jobs {
			var some []schedule.Firing
			some, err = session.Fetch(ctx, schedule.Room{Messages: 5, Bytes: 1 << 20})
			for _, f := range some {
				if early := time.Until(f.Scheduled); early > 0 {
					t.Errorf("%s is %v early", f.Job.Name, early)
				}
				if id, seen := ids[f.Job.Name]; seen && id != f.ID {
					t.Errorf("%s has the firings %s and %s", f.Job.Name, id, f.ID)
				}
				ids[f.Job.Name] = f.ID
				err = session.Settle(ctx, []schedule.Settlement{{Position: f.Position}})
			}
		}
		_ = session.Close(ctx) // it may have been lost
	}
	if len(ids) != jobs {
		t.Errorf("%d of %d jobs have fired", len(ids), jobs)
	}
}
