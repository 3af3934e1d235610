// Package docs runs what the README and the pages under docs tell the reader to run, and holds them to the output they show.
//
// A block marked sh is run, all blocks of a page in one shell at the top of the tree; a block marked text right after it is
// what it prints, where a line "..." stands for any lines and "..." within a line for any text. A block marked yaml is a
// configuration and must be without fault. Every block says what it is, so that none with commands goes unnoticed.
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
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// block is one fenced block of a page.
type block struct {
	language, text string
	line           int
}

// languages are what a block may be marked with.
var languages = []string{"sh", "text", "yaml", "go", "python", "proto", "json"}

var fence = regexp.MustCompile("^ *(```+|~~~+) *([^ ]*)")

func blocks(page string) (all []block) {
	var open *block
	for i, line := range strings.Split(page, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open == nil && m != nil:
			open = &block{language: m[2], line: i + 1}
		case open != nil && m != nil:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return all
}

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
	for _, page := range pages(t) {
		text, err := os.ReadFile(filepath.Join(harness.Root(), page))
		if err != nil {
			t.Fatal(err)
		}
		all := blocks(string(text))
		t.Run(page, func(t *testing.T) {
			for _, line := range unmarked(all) {
				t.Errorf("%s:%d: this block must be marked with one of %v", page, line, languages)
			}
			configurations(t, page, all)
			run += commands(t, page, all)
		})
	}
	if run == 0 {
		t.Fatal("no command was run")
	}
	t.Logf("%d command blocks were run", run)
}

// unmarked are the lines of the blocks that do not say what they are.
func unmarked(all []block) (lines []int) {
	for _, b := range all {
		if !slices.Contains(languages, b.language) {
			lines = append(lines, b.line)
		}
	}
	return lines
}

func TestUnmarked(t *testing.T) {
	for page, want := range map[string][]int{
		"```sh\nls\n```\n": nil, "```\nls\n```\n": {1}, "a\n```bash\nls\n```\n": {2}, "- a\n  ```\n  ls\n  ```\n": {2}, "~~~\nls\n~~~\n": {1},
		"```text\na\n```\n\n``` \nls\n```\n": {5}, "no block": nil,
	} {
		if got := unmarked(blocks(page)); !slices.Equal(got, want) {
			t.Errorf("%q: lines %v, want %v", page, got, want)
		}
	}
}

func configurations(t *testing.T, page string, all []block) {
	for _, b := range all {
		if b.language != "yaml" {
			continue
		}
		path := filepath.Join(t.TempDir(), "block.yaml")
		if err := os.WriteFile(path, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(harness.Binary(t), "check", "-app-id", "docs", "-config", path).CombinedOutput(); err != nil {
			t.Errorf("%s:%d: this configuration has faults:\n%s", page, b.line, out)
		}
	}
}

const (
	pageTime = 10 * time.Minute
	marker   = "--- end of the block at line "
)

// commands runs a page's sh blocks and answers how many there were.
func commands(t *testing.T, page string, all []block) (ran int) {
	script := &strings.Builder{}
	for _, b := range all {
		if b.language == "sh" {
			fmt.Fprintf(script, "%s\nprintf '\\n%s%d\\n'\n", b.text, marker, b.line)
			ran++
		}
	}
	if ran == 0 {
		return 0
	}
	out := shell(t, page, script.String())
	for i, b := range all {
		if b.language != "sh" {
			continue
		}
		printed, rest, ok := strings.Cut(out, fmt.Sprintf("\n%s%d\n", marker, b.line))
		if !ok {
			t.Fatalf("%s:%d: this block did not end well:\n%s", page, b.line, out)
		}
		out = rest
		if i+1 < len(all) && all[i+1].language == "text" {
			compare(t, page, all[i+1], printed)
		}
	}
	return ran
}

// shell runs a script as a reader would, but with a data folder of its own.
func shell(t *testing.T, page, script string) string {
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
		t.Errorf("%s: %v", page, err)
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

func compare(t *testing.T, page string, want block, printed string) {
	if !shows(want.text).MatchString(strings.TrimSpace(printed)) {
		t.Errorf("%s:%d: the page shows\n%s\nbut what is printed is\n%s", page, want.line, want.text, printed)
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
