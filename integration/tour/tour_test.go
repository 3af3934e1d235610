// Package tour takes the tour of examples/tour in each language: the same nine steps, with a sidecar that starts the program.
package tour

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/lang"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const want = `1 call a service: hello, sidecar
2 be called: by sidecar
3 cache: 42
4 state: the old version is refused, VERSION_MISMATCH
5 config: hello, then servus
6 events: 1 2 3
7 lock: the old token is refused, STALE_FENCE
8 schedule: wake-up fired
9 transaction: ABORTED at two; last of one: compensation
tour: 9 steps done`

// protos are the tour's own and all of the API.
func protos(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"tour.proto": "examples/tour/tourpb/tour.proto"}
	paths, err := filepath.Glob(filepath.Join(harness.Root(), "proto", "outrigger", "*", "v1", "*.proto"))
	if err != nil || len(paths) == 0 {
		t.Fatal("there are no proto files: ", err)
	}
	for _, path := range paths {
		name, err := filepath.Rel(filepath.Join(harness.Root(), "proto"), path)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = "proto/" + name
	}
	return all
}

func TestTour(t *testing.T) {
	files := protos(t)
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, p := range []lang.Program{
		{Name: "python", Language: lang.Python(names...), Run: []string{"venv/bin/python", "tour.py"}},
		{Name: "node", Language: lang.Node(), Run: []string{"node", "tour.js"}},
		{Name: "java", Language: lang.Java(), Run: lang.RunJava("tour.Tour")},
		{Name: "cpp", Language: lang.CPP(), Run: []string{"./tour"}},
	} {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			p.From, p.Protos = "examples/tour/"+p.Name, files
			p.Name = "tour/" + p.Name
			take(t, p.Prepare(t), p.Env, p.Run)
		})
	}
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		take(t, harness.Root(), nil, []string{"go", "run", "./examples/tour/go"})
	})
}

// take runs the program beside a sidecar on embedded defaults, twice on the same data: what the first one left must not be in the
// way of the second.
func take(t *testing.T, dir string, env, run []string) {
	data := t.TempDir()
	for range 2 {
		port := harness.FreePort(t)
		// The shell goes to the program's folder; exec leaves no process between the sidecar and the program.
		script := `cd "$0" && exec "$@"`
		command := append([]string{"env"}, env...)
		command = append(command, "sh", "-c", script, dir)
		command = append(append(command, run...), strconv.Itoa(port))
		s := harness.Start(t, harness.Options{App: "tour", AppPort: port, DataDir: data, Command: command})
		if code := s.Wait(2 * time.Minute); code != 0 {
			t.Errorf("it ended with %d\n%s", code, s.Output())
		}
		if got := tourLines(s.Output()); got != want {
			t.Fatalf("it printed\n%s\nwant\n%s", got, want)
		}
	}
}

// tourLines are the program's among those of the sidecar.
func tourLines(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if line != "" && (line[0] >= '1' && line[0] <= '9' && line[1] == ' ' || strings.HasPrefix(line, "tour:")) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}
