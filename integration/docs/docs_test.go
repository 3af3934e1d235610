// Package docs runs what the README and the pages under docs tell the reader to run, and holds them to the output they show.
//
// A block marked sh is run, all blocks of a page in one shell at the top of the tree; a block marked text right after it is
// what it prints, where a line "..." stands for any lines and "..." within a line for any text. A block marked yaml is a
// configuration and must be without fault. A page with blocks marked properties, the settings of applications, is followed by a test that takes
// them from it. Every block says what it is, so that none with commands goes unnoticed.
package docs

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/page"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// languages are what a block may be marked with.
var languages = []string{"sh", "text", "yaml", "properties", "go", "python", "proto", "json"}

// pages are those whose blocks must hold. Decisions are history, and what is generated has no commands.
func pages(t *testing.T) []string {
	all := []string{"README.md"}
	err := filepath.WalkDir(filepath.Join(harness.Root(), "docs"), func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(harness.Root(), path)
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".md") && !strings.HasPrefix(rel, "docs/adr/") {
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPages(t *testing.T) {
	run := 0
	for _, name := range pages(t) {
		text, err := os.ReadFile(filepath.Join(harness.Root(), name))
		if err != nil {
			t.Fatal(err)
		}
		all := page.Blocks(string(text))
		t.Run(name, func(t *testing.T) {
			for _, line := range unmarked(all) {
				t.Errorf("%s:%d: this block must be marked with one of %v", name, line, languages)
			}
			configurations(t, name, all)
			run += commands(t, name, all)
		})
	}
	if run == 0 {
		t.Fatal("no command was run")
	}
	t.Logf("%d command blocks were run", run)
}

// unmarked are the lines of the blocks that do not say what they are.
func unmarked(all []page.Block) (lines []int) {
	for _, b := range all {
		if !slices.Contains(languages, b.Language) {
			lines = append(lines, b.Line)
		}
	}
	return lines
}

// TestSettingsAreTried: a page with settings of applications is opened by a test, which fails if it has not taken each.
func TestSettingsAreTried(t *testing.T) {
	var tests strings.Builder
	for _, pattern := range []string{"integration/*/*_test.go", "integration/*/*/*_test.go"} {
		files, err := filepath.Glob(filepath.Join(harness.Root(), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(text)
		}
	}
	for _, name := range pages(t) {
		text, err := os.ReadFile(filepath.Join(harness.Root(), name))
		if err != nil {
			t.Fatal(err)
		}
		settings := slices.ContainsFunc(page.Blocks(string(text)), func(b page.Block) bool { return b.Language == "properties" })
		if settings && !strings.Contains(tests.String(), fmt.Sprintf("page.Open(t, %q", name)) {
			t.Errorf("%s has settings that no test tries", name)
		}
	}
}

func TestUnmarked(t *testing.T) {
	for name, want := range map[string][]int{
		"```sh\nls\n```\n": nil, "```\nls\n```\n": {1}, "a\n```bash\nls\n```\n": {2}, "- a\n  ```\n  ls\n  ```\n": {2}, "~~~\nls\n~~~\n": {1},
		"```text\na\n```\n\n``` \nls\n```\n": {5}, "no block": nil,
	} {
		if got := unmarked(page.Blocks(name)); !slices.Equal(got, want) {
			t.Errorf("%q: lines %v, want %v", name, got, want)
		}
	}
}

func configurations(t *testing.T, name string, all []page.Block) {
	for _, b := range all {
		if b.Language != "yaml" {
			continue
		}
		path := filepath.Join(t.TempDir(), "block.yaml")
		if err := os.WriteFile(path, []byte(b.Text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(harness.Binary(t), "check", "-app-id", "docs", "-config", path).CombinedOutput(); err != nil {
			t.Errorf("%s:%d: this configuration has faults:\n%s", name, b.Line, out)
		}
	}
}

const (
	pageTime = 10 * time.Minute
	marker   = "--- end of the block at line "
)

// commands runs a page's sh blocks and answers how many there were.
func commands(t *testing.T, name string, all []page.Block) (ran int) {
	script := &strings.Builder{}
	for _, b := range all {
		if b.Language == "sh" {
			fmt.Fprintf(script, "%s\nprintf '\\n%s%d\\n'\n", b.Text, marker, b.Line)
			ran++
		}
	}
	if ran == 0 {
		return 0
	}
	out := shell(t, name, script.String())
	for i, b := range all {
		if b.Language != "sh" {
			continue
		}
		printed, rest, ok := strings.Cut(out, fmt.Sprintf("\n%s%d\n", marker, b.Line))
		if !ok {
			t.Fatalf("%s:%d: this block did not end well:\n%s", name, b.Line, out)
		}
		out = rest
		if i+1 < len(all) && all[i+1].Language == "text" {
			compare(t, name, all[i+1], printed)
		}
	}
	return ran
}

// shell runs a script as a reader would, but with a data folder of its own.
func shell(t *testing.T, name, script string) string {
	ctx, cancel := context.WithTimeout(t.Context(), pageTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = harness.Root()
	cmd.Env = append(clean(os.Environ()), "OUTRIGGER_DATA_DIR="+t.TempDir(), "PATH="+installed(t)+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what a page left running
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return string(out)
}

// clean takes out what a make above would tell a make on the page.
func clean(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") })
}

// installed is a folder with the binary under its own name.
func installed(t *testing.T) string {
	dir := t.TempDir()
	if err := os.Symlink(harness.Binary(t), filepath.Join(dir, "outrigger")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func compare(t *testing.T, name string, want page.Block, printed string) {
	if !shows(want.Text).MatchString(strings.TrimSpace(printed)) {
		t.Errorf("%s:%d: the page shows\n%s\nbut what is printed is\n%s", name, want.Line, want.Text, printed)
	}
}

// shows is the expression that matches what a text block stands for.
func shows(text string) *regexp.Regexp {
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line == "..." {
			lines = append(lines, "(?s:.*)")
			continue
		}
		parts := strings.Split(line, "...")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		lines = append(lines, strings.Join(parts, ".*"))
	}
	return regexp.MustCompile("^" + strings.Join(lines, `\s*\n?`) + "$")
}

func TestShows(t *testing.T) {
	for _, c := range []struct {
		text, printed string
		want          bool
	}{
		{"a\nb\n", "a\nb", true}, {"a\n", "b", false}, {"a\n", "a\nb", false}, {"pid ... done\n", "pid 12 done", true},
		{"...\nb\n", "x\ny\nb", true}, {"...\nb\n", "x\ny", false}, {"a.c\n", "abc", false},
	} {
		if got := shows(c.text).MatchString(c.printed); got != c.want {
			t.Errorf("%q shows %q: %v, want %v", c.text, c.printed, got, c.want)
		}
	}
}
