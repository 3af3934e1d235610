package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is of one run, for people, in Markdown.
type report struct {
	began   time.Time
	command string
	commit  string
	tally   *tally
}

// told sorts what tests have printed: which servers they were run on, and what they saw.
func (r report) told() (servers map[string]int, lines []string) {
	servers = map[string]int{}
	for _, line := range r.tally.lines {
		switch {
		case strings.HasPrefix(line, "server "):
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "server "), " pid ")
			servers[name]++
		case strings.HasPrefix(line, "--- "), strings.HasPrefix(line, " "), strings.HasPrefix(line, "\t"),
			strings.HasPrefix(line, "ok "), line == "PASS", line == "FAIL", line == "":
		default:
			lines = append(lines, line)
		}
	}
	slices.Sort(lines) // tests that run beside each other print by turns
	return servers, lines
}

func (r report) save(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(r.write(f), f.Close())
}

func (r report) write(out io.Writer) error {
	servers, lines := r.told()
	var text strings.Builder
	fmt.Fprintf(&text, "# Faults of real servers\n\nWritten by `%s`, not by hand.\n\n", r.command)
	fmt.Fprintf(&text, "- when: %s, for %s\n", r.began.UTC().Format("2006-01-02 15:04 UTC"), time.Since(r.began).Round(time.Second))
	fmt.Fprintf(&text, "- commit: %s\n- machine: %s\n", r.commit, machine())
	fmt.Fprintf(&text, "- result: %s\n\n## Servers\n\n", r.tally)
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		fmt.Fprintf(&text, "- %s: %d processes\n", name, servers[name])
	}
	fmt.Fprintf(&text, "\n## What was seen\n\n```text\n%s\n```\n\n## Times\n\n```text\n", strings.Join(lines, "\n"))
	r.tally.times(&text)
	text.WriteString("```\n")
	_, err := io.WriteString(out, text.String())
	return err
}

// machine is its class, not its name.
func machine() string {
	memory := "unknown memory"
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int
		if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); err == nil {
			memory = fmt.Sprintf("%d GiB", (kib+1<<19)>>20)
		}
	}
	load := "unknown load"
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = "load of the last 15 minutes " + strings.Fields(string(text))[2]
	}
	return fmt.Sprintf("%d cores, %s, %s/%s, kernel %s, %s, %s", runtime.NumCPU(), memory, runtime.GOOS, runtime.GOARCH, strings.SplitN(answer("uname", "-r"), "-", 2)[0], runtime.Version(), load)
}

func answer(command ...string) string {
	out, err := exec.Command(command[0], command[1:]...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
