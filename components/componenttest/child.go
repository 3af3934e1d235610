package componenttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// child is a run of this test binary with one mutant.
type child struct {
	test     string // the test to run, as t.Name answers it
	suite    string
	name     string
	patience time.Duration
}

// passes answers why the suite did not pass.
func (c child) passes() error {
	output, err := c.run()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	if !strings.Contains(output, "--- PASS: "+c.subtest()) {
		return fmt.Errorf("the suite did not run\n%s", output)
	}
	return nil
}

// caught answers the name of the subtest that failed, or why there is none.
func (c child) caught() (by string, err error) {
	output, err := c.run()
	if err == nil {
		return "", errors.New("the suite passed")
	}
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		// The testing package exits with 2 for a panic and for a timeout.
		return "", fmt.Errorf("no assertion failed, but: %w\n%s", err, output)
	}
	by, ok := failed(output, c.subtest())
	if !ok {
		return "", fmt.Errorf("no assertion failed, but: %w\n%s", err, output)
	}
	return by, nil
}

// subtest is what the testing package calls the run of the suite.
func (c child) subtest() string { return c.test + "/" + strings.ReplaceAll(c.name, " ", "_") }

func (c child) run() (output string, err error) {
	// The testing package's own timeout prints where it hangs; the context is for a child that does not even get there.
	ctx, cancel := context.WithTimeout(context.Background(), c.patience+10*time.Second)
	defer cancel()
	var pattern []string
	for _, part := range strings.Split(c.test, "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run="+strings.Join(pattern, "/"),
		"-test.v", "-test.failfast", "-test.count=1", "-test.parallel=16", "-test.timeout="+c.patience.String())
	cmd.Env = append(os.Environ(), variable+"="+c.suite+"/"+c.name)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return tail(out), err
}

// tail leaves of a long output the end, which has the verdicts.
func tail(output []byte) string {
	const enough = 64 << 10
	return string(output[max(0, len(output)-enough):])
}

var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+) \(`)

// failed finds the innermost failed test below the one named, the first of them if there are more.
func failed(output, below string) (name string, ok bool) {
	depth := -1
	for _, match := range failure.FindAllStringSubmatch(output, -1) {
		rest, inside := strings.CutPrefix(match[1], below)
		inside = inside && (rest == "" || rest[0] == '/')
		if inside && strings.Count(rest, "/") > depth {
			depth, name = strings.Count(rest, "/"), strings.TrimPrefix(rest, "/")
		}
	}
	if name == "" {
		name = "the suite itself"
	}
	return name, depth >= 0
}
