package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// TestChild runs the application as a child of the sidecar.
func TestChild(t *testing.T) {
	t.Run("its exit code is the sidecar's", func(t *testing.T) {
		s := harness.Start(t, harness.Options{App: "a", Command: []string{"sh", "-c", "sleep 1; exit 7"}})
		if code := s.Wait(30 * time.Second); code != 7 {
			t.Fatalf("exit code %d, want 7\n%s", code, s.Output())
		}
	})
	t.Run("it knows where the sidecar is", func(t *testing.T) {
		s := harness.Start(t, harness.Options{App: "a", Command: []string{"sh", "-c", "env | grep ^OUTRIGGER_; sleep 1"}})
		s.Wait(30 * time.Second)
		for _, want := range []string{"OUTRIGGER_GRPC_ADDR=" + s.GRPC, "OUTRIGGER_HTTP_ADDR=" + s.HTTP, "OUTRIGGER_SOCKET=" + s.Socket, "OUTRIGGER_OUTBOUND_ADDR=" + s.Outbound} {
			if !strings.Contains(s.Output(), want) {
				t.Errorf("%s is not in its environment:\n%s", want, s.Output())
			}
		}
	})
	t.Run("a signal reaches it, and it may still use the sidecar", func(t *testing.T) {
		script := `trap 'curl -sS -H "content-type: application/json" -d "{\"key\":\"k\",\"delta\":\"5\"}" http://$OUTRIGGER_HTTP_ADDR/outrigger.cache.v1.Cache/Increment; exit 3' TERM; while :; do sleep 0.1; done`
		s := harness.Start(t, harness.Options{App: "a", Command: []string{"sh", "-c", script}, Config: "cache: {default: {driver: memory}}\ndrain: {propagation: 200ms, max: 5s}\n"})
		if code := s.Stop(); code != 3 || !strings.Contains(s.Output(), `"value":"5"`) {
			t.Fatalf("exit code %d\n%s", code, s.Output())
		}
	})
	t.Run("one that does not end is killed", func(t *testing.T) {
		s := harness.Start(t, harness.Options{App: "a", Command: []string{"sh", "-c", `trap "" TERM; while :; do sleep 0.1; done`}, Config: "drain: {propagation: 100ms, max: 2s}\n"})
		if code := s.Stop(); code == 0 || !strings.Contains(s.Output(), "killed") {
			t.Fatalf("exit code %d\n%s", code, s.Output())
		}
	})
	t.Run("one that cannot be started", func(t *testing.T) {
		_, err := harness.TryStart(t, harness.Options{App: "a", Command: []string{"/no/such/program"}})
		if err == nil || !strings.Contains(err.Error(), "/no/such/program") || !strings.Contains(err.Error(), "exit status 2") {
			t.Fatal(err)
		}
	})
}

func TestOneSidecarAnApplication(t *testing.T) {
	s := harness.Start(t, harness.Options{App: "a"})
	_, err := harness.TryStart(t, harness.Options{App: "a", DataDir: s.DataDir})
	if err == nil || !strings.Contains(err.Error(), "another sidecar serves application default/a") || !strings.Contains(err.Error(), "exit status 2") {
		t.Fatal(err)
	}
}

func TestSocketLeftBehind(t *testing.T) {
	s := harness.Start(t, harness.Options{App: "a"})
	s.Kill()
	if _, err := os.Stat(s.Socket); err != nil {
		t.Fatalf("nothing was left behind: %v", err)
	}
	again := harness.Start(t, harness.Options{App: "a", DataDir: s.DataDir})
	if _, err := again.Client().Cache("").Exists(within(t, 10*time.Second), "k"); err != nil {
		t.Fatal(err)
	}
}

// reloadable is a sidecar on a file that a test changes.
type reloadable struct {
	*harness.Sidecar
	t    *testing.T
	path string
}

func startReloadable(t *testing.T, text string) *reloadable {
	path := filepath.Join(t.TempDir(), "c.yaml")
	r := &reloadable{t: t, path: path}
	r.write(text)
	r.Sidecar = harness.Start(t, harness.Options{App: "a", Args: []string{"-config", path}})
	return r
}

// write replaces the file as editors do.
func (r *reloadable) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path+".new", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.path+".new", r.path); err != nil {
		r.t.Fatal(err)
	}
}

type info struct {
	Config struct {
		Generation int
		LastError  string `json:"last_error"`
	}
	Components []struct{ Name, Capability, Driver, State string }
}

func (r *reloadable) info() (i info) {
	r.t.Helper()
	res, err := http.Get("http://" + r.Admin + "/info")
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(text, &i)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return i
}

func TestReload(t *testing.T) {
	const before = "cache: {kept: {driver: memory}, gone: {driver: memory}}\n"
	r := startReloadable(t, before)
	c := r.Client()
	if _, err := c.Cache("kept").Set(within(t, 10*time.Second), "k", client.Item{Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	r.write("cache: {kept: {driver: memroy}}\n")
	harness.Eventually(t, 20*time.Second, func() error {
		if i := r.info(); !strings.Contains(i.Config.LastError, r.path+`:1:24: cache "kept": unknown driver "memroy" (did you mean "memory"?)`) || i.Config.Generation != 1 {
			return fmt.Errorf("%+v", i.Config)
		}
		return nil
	})
	r.write("api: {access: any}\n" + before)
	r.Signal(syscall.SIGHUP)
	harness.Eventually(t, 20*time.Second, func() error {
		if i := r.info(); !strings.Contains(i.Config.LastError, "needs a restart") || i.Config.Generation != 1 {
			return fmt.Errorf("%+v", i.Config)
		}
		return nil
	})
	r.write("cache: {kept: {driver: memory}, added: {driver: memory, options: {max_bytes: 8MiB}}}\n")
	harness.Eventually(t, 20*time.Second, func() error {
		if i := r.info(); i.Config.LastError != "" || i.Config.Generation < 2 || len(i.Components) != 2 {
			return fmt.Errorf("%+v", i)
		}
		return nil
	})
	if item, err := c.Cache("kept").Get(within(t, 10*time.Second), "k"); err != nil || string(item.Value) != "v" {
		t.Fatalf("a component that did not change was rebuilt: %v, %v", item, err)
	}
	if _, err := c.Cache("added").Exists(within(t, 10*time.Second), "k"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cache("gone").Exists(within(t, 10*time.Second), "k"); client.Reason(err) != "COMPONENT_NOT_FOUND" || !strings.Contains(err.Error(), "added, kept") {
		t.Fatal(err)
	}
}

func TestCommands(t *testing.T) {
	s := harness.Start(t, harness.Options{App: "a"})
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("cache: {default: {driver: memory, optoins: {}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := s.GRPC[strings.LastIndexByte(s.GRPC, ':')+1:]
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"version"}, 0, "outrigger "},
		{[]string{"schema"}, 0, `"$schema"`},
		{[]string{"components"}, 0, "cache: driver memory"},
		{[]string{"components", "memory", "-o", "json"}, 0, `"max_bytes"`},
		{[]string{"components", "nothing"}, 1, `"nothing"`},
		{[]string{"check", "-config", bad}, 1, `bad.yaml:1:35: cache "default": unknown field "optoins"`},
		{[]string{"check", "--config", filepath.Join(harness.Root(), "configs", "minimal.yaml")}, 0, "ok"},
		{[]string{"check", "-dial", "-config", filepath.Join(harness.Root(), "configs", "minimal.yaml")}, 0, ""},
		{[]string{"check"}, 2, "-config"},
		{[]string{"call", "-grpc-port", port, "Cache/Set", `{"key":"a","value":"MQ=="}`}, 0, "version"},
		{[]string{"call", "-socket", s.Socket, "Cache/Get", `{"key":"a"}`}, 0, "MQ=="},
		{[]string{"call", "-addr", s.GRPC, "Cache/Get", `{"key":"b"}`}, 1, "KEY_NOT_FOUND"},
		{[]string{"call", "-addr", s.GRPC, "Cache/Got"}, 2, "Cache/Get"},
		{[]string{"call", "-addr", s.GRPC, "Cache/Get", `{"kex":"b"}`}, 2, "kex"},
		{[]string{"call", "-addr", "127.0.0.1:1", "Cache/Get", `{}`}, 2, "127.0.0.1:1"},
		{[]string{"status", "-socket", s.Socket}, 0, "a: ready"},
		{[]string{"status", "-grpc-port", port}, 0, "a: ready"},
		{[]string{"status", "-addr", s.GRPC}, 0, "a: ready"},
		{[]string{"status", "-addr", s.Outbound}, 0, "a: ready"},
		{[]string{"status", "-socket", s.Socket, "-o", "json"}, 0, `"generation": 1`},
		{[]string{"run", "-config", bad}, 2, "bad.yaml:1:35"},
		{[]string{"run", "-app-port", "99999"}, 2, "65535"},
		{[]string{"rnu"}, 2, "run"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			cmd := exec.Command(harness.Binary(t), c.args...)
			cmd.Env = append(os.Environ(), "OUTRIGGER_DATA_DIR="+t.TempDir())
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.want) {
				t.Fatalf("exit code %d, want %d; the output must have %q:\n%s", code, c.code, c.want, out)
			}
		})
	}
}

// TestCheckDialsWithSecrets checks a component whose options refer to a secret.
func TestCheckDialsWithSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	text := "app: {id: a}\nsecret: {s: {driver: env, options: {prefix: CHECK_}}}\nconfig: {default: {driver: file, options: {dir: \"${secret:s/dir}\"}}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]int{t.TempDir(): 0, "": 1} {
		cmd := exec.Command(harness.Binary(t), "check", "-dial", "-config", path)
		cmd.Env = append(os.Environ(), "OUTRIGGER_DATA_DIR="+t.TempDir())
		if value != "" {
			cmd.Env = append(cmd.Env, "CHECK_dir="+value)
		}
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("with CHECK_dir=%q: exit code %d, want %d\n%s", value, code, want, out)
		}
	}
}

// TestDiscoveryWithoutAnApplicationID finds the one sidecar in the data folder, though the operators' socket is there too.
func TestDiscoveryWithoutAnApplicationID(t *testing.T) {
	s := harness.Start(t, harness.Options{App: "a"})
	cmd := exec.Command(harness.Binary(t), "call", "Cache/Exists", `{"key":"k"}`)
	cmd.Env = append(os.Environ(), "OUTRIGGER_DATA_DIR="+s.DataDir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	harness.Start(t, harness.Options{App: "b", DataDir: s.DataDir})
	cmd = exec.Command(harness.Binary(t), "call", "Cache/Exists", `{"key":"k"}`)
	cmd.Env = append(os.Environ(), "OUTRIGGER_DATA_DIR="+s.DataDir)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "several applications (a, b)") {
		t.Fatalf("%v\n%s", err, out)
	}
}
