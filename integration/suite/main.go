// Command suite runs the black-box tests and shows what go test -v does; then what those that failed have said, and how long packages
// and tests took, the slowest first. Its last line counts them: "suite: N passed, N failed, N skipped". Its exit code is that of go
// test, and 1 when no test ran, one was skipped, or processes or folders of servers were left behind. What is left of a run that is interrupted is
// removed. With -unit it shows no more than go test does, which runs packages beside each other, and tests may be skipped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/servers"
)

func main() {
	only := flag.String("only", "", "run only tests whose names match these regular expressions, one for each level between slashes, in capitals or not")
	timeout := flag.Duration("timeout", 30*time.Minute, "of each package")
	together := flag.Int("parallel", 6, "how many tests of a package run beside each other, where they allow that: they wait more than they compute")
	unit := flag.Bool("unit", false, "for tests that need nothing but Go: as go test runs and shows them by itself")
	file := flag.String("report", "", "file that a report is written to when all tests have passed")
	features := flag.String("features", "", "file that is written with what tests that passed say that they show, for docgen")
	within := flag.String("within", "", "REGEXP=DURATION: fail if the packages with such names take longer, all in all")
	flag.Parse()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./integration/..."}
	}
	// One package after the other: some of them build, start Java, or time what a call takes.
	args := []string{"-p=1", "-parallel", strconv.Itoa(*together)}
	if *unit {
		args = []string{fmt.Sprint("-p=", runtime.NumCPU()+1)} // one more, since many tests wait
	}
	args = append(append([]string{"test", "-json", "-count=1", "-timeout", timeout.String(), "-run", anyCase(*only)}, args...), packages...)
	r := report{began: time.Now(), commit: answer("git", "describe", "--always", "--dirty"), command: strings.TrimSpace("OUTRIGGER_FAULT=" + os.Getenv("OUTRIGGER_FAULT") + " suite " + strings.Join(packages, " ")), tally: &tally{unit: *unit}}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	mark := fmt.Sprintf("%d-%d", os.Getpid(), r.began.UnixNano())
	os.Setenv(servers.Mark, mark)
	code, err := run(goTest(ctx, args), os.Stdout, r.tally)
	if left := servers.Left(mark); len(left) > 0 && ctx.Err() == nil {
		err = errors.Join(err, fmt.Errorf("left behind:\n%s", strings.Join(left, "\n")))
	}
	err = errors.Join(err, r.tally.within(*within, os.Stdout))
	if err == nil && code == 0 && *file != "" {
		err = r.save(*file)
	}
	if err == nil && code == 0 && *features != "" {
		err = r.tally.saveFeatures(*features)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// goTest is a go test that ends with the context, with all that it has started, as by Ctrl-C.
func goTest(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	return cmd
}

// anyCase lets the name of a suite be written as one reads it aloud.
func anyCase(pattern string) string {
	if pattern == "" {
		return ""
	}
	return "(?i)" + strings.ReplaceAll(pattern, "/", "/(?i)")
}

// run shows the output of a go test -json, and then what came of its tests.
func run(test *exec.Cmd, out io.Writer, t *tally) (code int, err error) {
	test.Stderr = os.Stderr
	events, err := test.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := test.Start(); err != nil {
		return 1, err
	}
	err = t.read(events, out)
	if e := test.Wait(); err == nil {
		err = e
	}
	t.blame(out)
	if !t.unit {
		t.times(out)
	}
	fmt.Fprintln(out, t)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	} else if err != nil {
		return 1, err
	}
	switch {
	case t.passed == 0:
		return 1, errors.New("no test ran: is there one of this name?")
	case t.skipped > 0 && !t.unit:
		return 1, errors.New("tests were skipped")
	}
	return 0, nil
}
