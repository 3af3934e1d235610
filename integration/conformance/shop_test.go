package conformance_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/install"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

var (
	checksum = regexp.MustCompile(`(?m)^The applications are sha256 ([0-9a-f]{64})`)
	checks   = regexp.MustCompile(`(?m)^demo: \d+ checks, 0 failed$`)
)

// TestShop runs the shop on embedded drivers, and on each set of drivers in examples/shop/configs/on. The applications are the same, to the byte.
func TestShop(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(harness.Root(), "examples", "shop", "configs", "on", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("sets of drivers: %q %v", files, err)
	}
	build := install.Command(t.Context(), harness.Root(), nil, "go", "build", "-o", filepath.Join(t.TempDir(), "demo"), "./examples/shop/demo")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	demo, same := build.Args[len(build.Args)-2], ""
	for _, file := range append([]string{"embedded"}, files...) {
		set := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(set, func(t *testing.T) {
			args, kinds := []string{"-on", set}, strings.Split(set, "-")
			if set == "embedded" {
				args, kinds = nil, nil
			}
			cmd := exec.CommandContext(t.Context(), demo, args...)
			cmd.Dir, cmd.Env = harness.Root(), os.Environ()
			for _, kind := range kinds {
				cmd.Env = append(cmd.Env, servers.Run(t, kind).Env()...)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			out, err := cmd.CombinedOutput()
			sum := checksum.FindSubmatch(out)
			if err != nil || sum == nil || !checks.Match(out) {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("applications sha256 %s, %s", sum[1], checks.Find(out))
			if same == "" {
				same = string(sum[1])
			}
			if string(sum[1]) != same {
				t.Errorf("the applications are others than before, which were %s", same)
			}
		})
	}
}
