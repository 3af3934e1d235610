package install

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestHoldServices(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy")
	restore, err := holdServices(policy)
	if err != nil {
		t.Fatal(err)
	}
	again, err := holdServices(policy) // by another, while they are held
	if err != nil {
		t.Fatal(err)
	}
	again()
	const forbidden = 101
	if cmd := exec.Command(policy, "redis-server", "start"); cmd.Run() == nil || cmd.ProcessState.ExitCode() != forbidden {
		t.Errorf("it ends with %v", cmd.ProcessState)
	}
	restore()
	if _, err := os.Stat(policy); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
}

// What is in the cache is made once for what it is made of, and never half.
func TestMade(t *testing.T) {
	t.Setenv("OUTRIGGER_CACHE", t.TempDir())
	times, broken := 0, errors.New("broken")
	fill := func(err error) func(string) error {
		return func(dir string) error {
			times++
			return errors.Join(os.Mkdir(filepath.Join(dir, "part"), 0o755), err)
		}
	}
	for i, step := range []struct {
		stamp string
		fails error
		times int
	}{{"one", broken, 1}, {"one", nil, 2}, {"one", broken, 2}, {"two", nil, 3}, {"two", broken, 3}} {
		if _, err := Made("some/thing", step.stamp, fill(step.fails)); times != step.times || (err != nil) != (i == 0) {
			t.Errorf("step %d: made %d times, not %d: %v", i, times, step.times, err)
		}
	}
}

func TestNeed(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // without apt-get
	err := Tool{Name: "no-such-server", Packages: "its-package another"}.Need(t.Context())
	if err == nil || err.Error() != "no-such-server is missing: install it (Debian: apt-get install its-package another)" {
		t.Errorf("it says %v", err)
	}
}
