package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

func TestTally(t *testing.T) {
	var server bytes.Buffer
	harness.Server(&server, "redis", "7.2.4", 42)
	line, err := json.Marshal(server.String())
	if err != nil {
		t.Fatal(err)
	}
	events := `{"Action":"start","Package":"a"}
{"Time":"2026-01-01T10:00:00Z","Action":"run","Package":"a","Test":"TestX"}
{"Action":"output","Package":"a","Test":"TestX","Output":"=== RUN   TestX\n"}
{"Action":"output","Package":"a","Test":"TestX","Output":` + string(line) + `}
{"Action":"pass","Package":"a","Test":"TestX/one"}
{"Time":"2026-01-01T10:00:04Z","Action":"pass","Package":"a","Test":"TestX"}
{"Action":"skip","Package":"a","Test":"TestY"}
{"Action":"pass","Package":"a","Elapsed":5}
{"Action":"output","Package":"b","Test":"TestZ","Output":"    z_test.go:1: no\n"}
{"Action":"fail","Package":"b","Test":"TestZ"}
{"Action":"output","Package":"b","Output":"FAIL\tb\n"}
{"Action":"fail","Package":"b"}
{"Action":"build-output","ImportPath":"c","Output":"undefined: x\n"}
{"Action":"fail","Package":"c","FailedBuild":"c"}
{"Action":"skip","Package":"d"}
not JSON
{"no":"event"}
the end`
	var got tally
	var out bytes.Buffer
	if err := got.read(strings.NewReader(events), &out); err != nil {
		t.Fatal(err)
	}
	if want := "server redis 7.2.4 pid 42\n    z_test.go:1: no\nFAIL\tb\nundefined: x\nnot JSON\n{\"no\":\"event\"}\nthe end"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	out.Reset()
	got.blame(&out)
	got.times(&out)
	if want := "--- b TestZ\n    z_test.go:1: no\ntime    5.0 s a\ntime    4.0 s a TestX\n"; out.String() != want {
		t.Errorf("then printed %q, want %q", out.String(), want)
	}
	for limit, want := range map[string]string{"": "", "^(a|b)$=5s": "", "^(a|b)$=4s": "took 5s, longer than 4s", "a": "invalid duration"} {
		if busy() && strings.HasPrefix(want, "took") {
			want = ""
		}
		if err := got.within(limit, &out); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("within %q: %v, want %q", limit, err, want)
		}
	}
	got.lines = append(got.lines, "redis stop 5s: acked 1 lost 0")
	out.Reset()
	if err := (report{command: "suite ./a", tally: &got}).write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"`suite ./a`", "cores, ", "\n- redis 7.2.4: 1 processes\n", "\nredis stop 5s: acked 1 lost 0\n", "4.0 s a TestX\n", "2 passed, 2 failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the report:\n%s", want, out.String())
		}
	}
	if want := "suite: 2 passed, 2 failed, 1 skipped"; got.String() != want {
		t.Errorf("%s, want %s", got.String(), want)
	}
}

// TestRun: what go test says of tests that exist, one that fails to build and its exit code.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		last string
	}{
		{"-run ^TestTally$ ./integration/suite", 0, "suite: 1 passed, 0 failed, 0 skipped"},
		{"-run ^Nothing$ ./integration/suite ./no/such/package", 1, "suite: 0 passed, 1 failed, 0 skipped"},
		{"-run ^Nothing$ ./integration/suite", 1, "suite: 0 passed, 0 failed, 0 skipped"}, // go test is content
	} {
		cmd := exec.Command("go", append([]string{"test", "-json"}, strings.Fields(c.args)...)...)
		cmd.Dir = filepath.Clean(harness.Root())
		var out bytes.Buffer
		code, _ := run(cmd, &out, &tally{})
		lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
		if code != c.code || lines[len(lines)-1] != c.last {
			t.Errorf("%s: code %d; want %d and the last line %q:\n%s", c.args, code, c.code, c.last, out.String())
		}
	}
}

// TestFeatures: what a test says that it shows counts if it has passed, and is shown of unit tests if they have not.
func TestFeatures(t *testing.T) {
	events := `{"Action":"output","Package":"x/outrigger/a","Test":"TestX","Output":"    a_test.go:7: feature: bolt, x\n"}
{"Action":"output","Package":"x/outrigger/a","Test":"TestX/one","Output":"    a_test.go:8: feature: bolt, of a part\n"}
{"Action":"output","Package":"x/outrigger/a","Test":"TestY","Output":"    a_test.go:9: feature: bolt, y\n"}
{"Action":"output","Package":"x/outrigger/a","Test":"TestZ","Output":"    a_test.go:9: feature: bolt, z\n"}
{"Action":"pass","Package":"x/outrigger/a","Test":"TestX/one"}
{"Action":"pass","Package":"x/outrigger/a","Test":"TestX"}
{"Action":"fail","Package":"x/outrigger/a","Test":"TestY"}
{"Action":"skip","Package":"x/outrigger/a","Test":"TestZ"}
{"Action":"output","Package":"x/outrigger/a","Test":"TestDied","Output":"panic: x\n"}
{"Action":"output","Package":"x/outrigger/a","Output":"FAIL\tx/outrigger/a\n"}
{"Action":"fail","Package":"x/outrigger/a"}
`
	got := tally{unit: true}
	var out bytes.Buffer
	if err := got.read(strings.NewReader(events), &out); err != nil {
		t.Fatal(err)
	}
	got.blame(&out)
	if want := "FAIL\tx/outrigger/a\n--- outrigger/a TestY\n    a_test.go:9: feature: bolt, y\n--- skipped: outrigger/a TestZ\n    a_test.go:9: feature: bolt, z\n--- without an end: outrigger/a TestDied\npanic: x\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	path := filepath.Join(t.TempDir(), "results", "features")
	if err := got.saveFeatures(path); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "a\tTestX\tfeature: bolt, x\n" {
		t.Errorf("saved %q, %v", text, err)
	}
}
