package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the processes that the tests start.
func TestMain(m *testing.M) {
	switch os.Getenv("DEMO_TEST_PROCESS") {
	case "polite":
		fmt.Println("polite is up")
		time.Sleep(time.Hour)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("stubborn is up")
		time.Sleep(time.Hour)
	case "parent":
		child := exec.Command(os.Args[0])
		child.Env = []string{"DEMO_TEST_PROCESS=stubborn"}
		if err := child.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Printf("stock: serving on nothing, pid %d\n", child.Process.Pid)
		time.Sleep(time.Hour)
	default:
		os.Exit(m.Run())
	}
}

var kebab = regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)*$`)

func TestEachCheckHasANameAndAFault(t *testing.T) {
	seen := map[string]bool{}
	for _, sc := range scenes() {
		if sc.title == "" || len(sc.checks) == 0 {
			t.Errorf("scene %q has %d checks", sc.title, len(sc.checks))
		}
		for _, c := range sc.checks {
			if !kebab.MatchString(c.name) || seen[c.name] || c.what == "" || c.run == nil || c.sabotage == nil {
				t.Errorf("check %+v: it needs a name of its own (like this-one), words, run and sabotage", c)
			}
			seen[c.name] = true
		}
	}
	if len(seen) < 15 {
		t.Errorf("there are %d checks", len(seen))
	}
}

func TestACheckFailsBySeeingSomethingElse(t *testing.T) {
	fault := false
	see := func(what string, err error) func(context.Context, *shop) (string, string, error) {
		return func(context.Context, *shop) (string, string, error) {
			if fault {
				return "a", "a fault", nil
			}
			return "a", what, err
		}
	}
	sabotage := func(context.Context, *shop) error { fault = true; return nil }
	for _, test := range []struct {
		name, seen string
		err        error
		broken     string
		fails      bool
	}{
		{name: "as expected", seen: "a"},
		{name: "something else", seen: "b", fails: true},
		{name: "an error", seen: "a", err: errors.New("late"), fails: true},
		{name: "sabotaged", seen: "a", broken: "sabotaged", fails: true},
		{name: "another is sabotaged", seen: "a", broken: "sabotaged"},
	} {
		fault = false
		var out strings.Builder
		r := &runner{out: &out, broken: test.broken}
		r.scene(t.Context(), &shop{}, scene{"a scene", []check{{test.name, "words", see(test.seen, test.err), sabotage}}}, "")
		if failed := len(r.failed) == 1; failed != test.fails || r.total != 1 {
			t.Errorf("%s: failed %v of %d, want %v; it told:\n%s", test.name, r.failed, r.total, test.fails, &out)
		}
		if !strings.Contains(out.String(), "expected: a\n") || !strings.Contains(out.String(), "seen:     ") {
			t.Errorf("%s: it told:\n%s", test.name, &out)
		}
	}
}

// What could not be finished is neither right nor wrong; the last line counts it as not shown.
func TestAnInterruptedCheckDoesNotCount(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &runner{out: &strings.Builder{}}
	run := func(context.Context, *shop) (string, string, error) { cancel(); return "a", "b", nil }
	r.scene(ctx, &shop{}, scene{"a scene", []check{{"one", "", run, nil}, {"two", "", run, nil}}}, "")
	if r.total != 0 || r.failed != nil {
		t.Errorf("%d checks, failed: %v", r.total, r.failed)
	}
}

func launch(t *testing.T, what, words string) *process {
	t.Helper()
	p, err := start(what, filepath.Join(t.TempDir(), "log"), []string{"DEMO_TEST_PROCESS=" + what}, os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.line(ctx, words); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStopAsksFirst(t *testing.T) {
	p := launch(t, "polite", "polite is up")
	p.stop(t.Context(), time.Minute)
	if got := p.exit(); got != "terminated" {
		t.Errorf("exit: %q", got)
	}
}

func TestStopEndsWhatDoesNotListen(t *testing.T) {
	p := launch(t, "stubborn", "stubborn is up")
	p.stop(t.Context(), 50*time.Millisecond)
	if got := p.exit(); got != "killed" {
		t.Errorf("exit: %q", got)
	}
}

func TestKillTakesTheApplicationAlong(t *testing.T) {
	p := launch(t, "parent", "serving on")
	var pid int
	if _, err := fmt.Sscanf(p.output(), "stock: serving on nothing, pid %d", &pid); err != nil {
		t.Fatal(err)
	}
	p.kill()
	for deadline := time.Now().Add(time.Minute); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d goes on", pid)
		}
	}
}

// alive tells whether a process runs; one that waits to be reaped, as an orphan of a container may for ever, does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	state, err := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(state)), "Z")
}

func TestALineThatNeverComes(t *testing.T) {
	p := launch(t, "polite", "polite is up")
	p.kill()
	_, err := p.line(t.Context(), "polite has had enough")
	if err == nil || !strings.Contains(err.Error(), "polite ended (killed)") || !strings.Contains(err.Error(), "polite is up") {
		t.Errorf("line: %v, want how it ended and what it said", err)
	}
}

func TestAShopLeavesNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := openShop("", drivers{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.path("till.yaml")); err != nil {
		t.Errorf("the shop has no configurations: %v", err)
	}
	if err := s.close(true); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}
