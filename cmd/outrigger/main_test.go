package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/runtime"
)

// asCommand has the test's binary be the command itself.
const asCommand = "OUTRIGGER_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

func TestArguments(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("cahce: {}\napp: {id: A}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"", 0, "Exit codes"}, {"help", 0, "outrigger run"}, {"rnu", 2, `unknown command "rnu" (did you mean "run"?)`}, {"help -h", 0, "outrigger run"}, {"config", 2, "(have run, check"},
		{"run -h", 0, "-app-id"}, {"check -h", 0, "-dial"}, {"version -h", 0, "-o"}, {"status --help", 0, "-socket"}, {"call -h", 0, "-timeout"}, {"components -h", 0, "-o"}, {"schema -h", 0, ""},
		{"run -grpc-port 70000", 2, "65535"}, {"run -grpc-port x", 2, "a port is a number"}, {"run -nonsense", 2, "nonsense"},
		{"tx -h", 0, "usage: outrigger tx [list | show GID"}, {"store -h", 0, "backup DIR"}, {"call -timeut 5s Cache/Get {}", 2, `did you mean "-timeout"?`}, {"call -timeout 5 Cache/Get {}", 2, "30s"},
		{"call -timeout 0s Cache/Get {}", 2, "more than 0"}, {"call Cache/Get {} -app-id a", 2, "flags go before"}, {"tx -o json list", 2, `unexpected argument "list"; usage: outrigger tx [list`},
		{"tx list -older-than 5", 2, "500ms"}, {"explain stock", 2, "-service S"}, {"check a.yaml", 2, "-config F"},
		{"run app.yaml", 2, `unexpected argument "app.yaml"`}, {"run -app-id a python3 app.py", 2, "behind --"},
		{"run -replace -- true", 2, "-replace does not go with a command"},
		{"run -config /no/such/file", 2, "/no/such/file"}, {"run -config " + bad + " -- true", 2, `unknown section "cahce"`},
		{"check", 2, "-config"}, {"check -config " + bad, 1, `unknown section "cahce"`}, {"check -config " + bad, 1, "app.id"},
		{"help run", 0, "-app-port"}, {"help rnu", 2, `unknown command "rnu"`}, {"--version", 0, "outrigger "}, {"status -h", 0, "default text"},
		{"check -config a.yaml b.yaml", 2, `unexpected argument "b.yaml"`}, {"check -o json -config " + bad, 2, "text and yaml"}, {"check -dial -o yaml -config " + bad, 2, "not both"}, {"check -o yaml -config " + bad, 1, `unknown section "cahce"`},
		{"schema x", 2, `"x"`}, {"status x", 2, `"x"`}, {"version x", 2, `"x"`},
		{"components cache x", 2, `"x"`}, {"components -o json cache x", 2, `"x"`}, {"components -o yaml", 2, "text and json"},
		{"schema -nonsense", 2, "nonsense"}, {"schema", 0, `"$schema"`}, {"version -o json", 0, `"version"`},
		{"components cache/memory", 0, "cache: driver memory"}, {"components -o json file", 0, `"driver": "file"`}, {"components nothing", 1, "have cache/memory, "},
		{"call", 2, "usage"}, {"call Cache/Got", 2, `did you mean "Cache/Get"?`}, {"call Cache", 2, "Cache/Get"}, {"call cache/get", 2, `did you mean "Cache/Get"?`}, {"call Cache/Get {\"kye\":\"a\"}", 2, `did you mean "key"?`}, {"call /outrigger.cache.v1.Cache/Get {", 2, "GetRequest"},
		{"call -addr 127.0.0.1:1 Cache/Get {}", 2, "127.0.0.1:1"}, {"status -admin-port 1", 2, "127.0.0.1:1"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var out bytes.Buffer
			if code := dispatch(strings.Fields(c.args), &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("code %d, want %d; it must say %q:\n%s", code, c.code, c.want, out.String())
			}
		})
	}
}

// TestCheckShowsTheConfiguration with flags and defaults filled in, and no secret; what it writes can be checked in turn.
func TestCheckShowsTheConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(path, []byte("app: {id: orders}\ncache: {default: {driver: memory}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := dispatch([]string{"check", "-config", path, "-app-port", "8081", "-o", "yaml"}, &out, &errs); code != 0 || errs.Len() != 0 {
		t.Fatalf("code %d: %s", code, errs.String())
	}
	for _, want := range []string{"id: orders\n", "port: 8081\n", "namespace: default\n", "driver: memory\n", "concurrency: 1024\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if code := dispatch([]string{"check", "-config", path, "-o", "yaml"}, &again, &errs); code != 0 || again.String() != out.String() {
		t.Errorf("code %d: %s; it differs when it is read again:\n%s", code, errs.String(), again.String())
	}
}

func TestExitCode(t *testing.T) {
	broken := errors.New("registry: connection refused")
	for _, c := range []struct {
		err   error
		code  int
		quiet bool
	}{
		{nil, 0, true},
		{&runtime.ChildExit{Code: 0}, 0, true},
		{&runtime.ChildExit{Code: 7}, 7, true},
		{broken, 1, false},
		{fmt.Errorf("%w: %w", runtime.ErrStart, broken), 2, false},
		{errors.Join(broken, &runtime.ChildExit{Code: 7}), 7, false},
		{errors.Join(fmt.Errorf("%w: %w", runtime.ErrStart, broken), &runtime.ChildExit{Code: 143}), 2, false},
		{errors.Join(broken, &runtime.ChildExit{Code: 0}), 1, false}, // the application ended well, the sidecar did not
		{runtime.ErrCut, 1, false},
		{errors.Join(runtime.ErrCut, &runtime.ChildExit{Code: 0}), 1, false},
	} {
		var out bytes.Buffer
		if code := exitCode(c.err, &out); code != c.code || (out.Len() == 0) != c.quiet {
			t.Errorf("%v: code %d, want %d; it said %q", c.err, code, c.code, out.String())
		}
	}
}

// Whatever is written for a method finds one or is told which there are.
func FuzzMethod(f *testing.F) {
	for _, name := range []string{"Cache/Get", "outrigger.cache.v1.Cache/Get", "Cache", "/", "Cache/", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		m, err := method(name)
		if (m == nil) != (err != nil) {
			t.Fatalf("%q: %v, %v", name, m, err)
		}
		if m != nil && !strings.HasSuffix(name, "/"+string(m.Name())) {
			t.Fatalf("%q found %s", name, m.FullName())
		}
		printStatus(io.Discard, errors.New(name))
	})
}
