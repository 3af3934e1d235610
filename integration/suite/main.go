// Command suite runs the black-box tests and shows what go test -v does; its last line counts them:
// "suite: N passed, N failed, N skipped". Its exit code is that of go test.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

func main() {
	only := flag.String("only", "", "run only tests whose name matches this regular expression")
	timeout := flag.Duration("timeout", 30*time.Minute, "of each package")
	flag.Parse()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./integration/..."}
	}
	args := append([]string{"test", "-json", "-count=1", "-timeout", timeout.String(), "-run", *only}, packages...)
	code, err := run(exec.Command("go", args...), os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
	}
	os.Exit(code)
}

// run shows the output of a go test -json, and then the count of its tests.
func run(test *exec.Cmd, out io.Writer) (code int, err error) {
	test.Stderr = os.Stderr
	events, err := test.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := test.Start(); err != nil {
		return 1, err
	}
	var t tally
	err = t.read(events, out)
	if e := test.Wait(); err == nil {
		err = e
	}
	fmt.Fprintln(out, t)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	} else if err != nil {
		return 1, err
	}
	return 0, nil
}
