//go:build linux

package integration_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	statepb "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
)

// outrigger runs a command to its end.
func outrigger(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	return finish(t, harness.Binary(t), nil, args...)
}

func finish(t *testing.T, path string, env []string, args ...string) (code int, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, path, args...)
	c.Env, c.SysProcAttr = append(os.Environ(), env...), &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.CombinedOutput()
	if ctx.Err() != nil || c.ProcessState == nil {
		t.Errorf("outrigger %s did not end: %v\n%s", strings.Join(args, " "), err, out)
		return -1, string(out)
	}
	return c.ProcessState.ExitCode(), string(out)
}

// runOn are the arguments of a sidecar with a data folder and free ports.
func runOn(dir string, more ...string) []string {
	return append([]string{"run", "-app-id", "a", "-data-dir", dir, "-grpc-port", "0", "-http-port", "0", "-admin-port", "0",
		"-inbound-port", "0", "-outbound-port", "0"}, more...)
}

func states(t *testing.T, s *harness.Sidecar) statepb.StateClient {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+s.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return ready(t, statepb.NewStateClient(conn))
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it ends the process rather than fail
	return b
}

// fill sets keys to random values of a size.
func fill(t *testing.T, c statepb.StateClient, keys, size int) {
	t.Helper()
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := worker; i < keys; i += 16 {
				if _, err := c.Set(t.Context(), &statepb.SetRequest{Key: fmt.Sprintf("k%d-%05d", size, i), Value: random(size)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// storeOf is the folder of a store that a sidecar has written and did not close.
func storeOf(t *testing.T, write func(s *harness.Sidecar, c statepb.StateClient)) string {
	t.Helper()
	s := harness.Start(t, harness.Options{App: "a"})
	write(s, states(t, s))
	s.Kill()
	return filepath.Join(s.DataDir, "store", "data")
}

// damage is what becomes of one file. at is where it begins; what a sidecar says may begin so many bytes before, where the record or
// block does, or is -1 when there is no place in the file to name.
type damage struct {
	file   string // a pattern: the last of them that is not empty, or all
	at     func(data []byte) int
	change func(data []byte, at int) []byte // nil: all of them go
	reach  int
}

func middle(data []byte) int { return len(data) / 2 }
func early(data []byte) int  { return 60 }
func header(data []byte) int { return 20 }
func last(data []byte) int   { return len(data) - 1 }

func flip(data []byte, at int) []byte { data[at] ^= 0x10; return data }
func cut(data []byte, at int) []byte  { return data[:at] }

// inflict damages a store and answers which file, and where.
func (d damage) inflict(t *testing.T, dir string) (path string, at int) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, d.file))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		if info, err := os.Stat(one); err == nil && (info.Size() > 0 || d.change == nil) {
			path = one
		}
		if d.change == nil {
			err = errors.Join(err, os.Remove(one))
		}
	}
	if err != nil || path == "" {
		t.Fatalf("there is no %s: %v", d.file, err)
	}
	if d.change == nil {
		return path, 0
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at = d.at(data)
	if at < 0 || at >= len(data) {
		t.Fatalf("%s has %d bytes, and is to be damaged at %d", path, len(data), at)
	}
	if err := os.WriteFile(path, d.change(data, at), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, at
}

// sums are the checksums of all files of a folder.
func sums(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = sha256.Sum256(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var place = regexp.MustCompile(`is damaged at byte (\d+)`)

// named tells what is wrong with how a damage was reported.
func (d damage) named(said, path string, at int) error {
	if !strings.Contains(said, filepath.Base(path)) && (d.change != nil || !strings.Contains(said, d.file)) {
		return fmt.Errorf("the file %s is not named", filepath.Base(path))
	}
	if d.reach < 0 {
		return nil
	}
	for _, m := range place.FindAllStringSubmatch(said, -1) {
		if n, err := strconv.Atoi(m[1]); err == nil && n <= at && n >= at-d.reach {
			return nil
		}
	}
	return fmt.Errorf("no place is named up to %d bytes before %d", d.reach, at)
}

// TestDamagedStores: a sidecar does not start with one, however long it takes to find out, and touches nothing.
func TestDamagedStores(t *testing.T) {
	wide := random(120_000) // in a block of which it takes the engine seconds to tell that it is damaged
	small := storeOf(t, func(_ *harness.Sidecar, c statepb.StateClient) { fill(t, c, 20, 300) })
	large := storeOf(t, func(s *harness.Sidecar, c statepb.StateClient) {
		fill(t, c, 2000, 1000)
		if _, err := c.Set(t.Context(), &statepb.SetRequest{Key: "wide", Value: wide}); err != nil {
			t.Fatal(err)
		}
		if code, said := outrigger(t, "store", "compact", "-data-dir", s.DataDir); code != 0 {
			t.Fatal(said)
		}
		fill(t, c, 20, 300)
	})
	inWide := func(data []byte) int { return bytes.Index(data, wide[50_000:50_100]) }
	for _, c := range []struct {
		name, store string
		damage
	}{
		{"byte of a short journal", small, damage{"*.journal", early, flip, 60}},
		{"byte of a journal after tables", large, damage{"*.journal", early, flip, 60}},
		{"byte of a short list of tables", small, damage{"MANIFEST-*", header, flip, 100}},
		{"byte of a list of tables", large, damage{"MANIFEST-*", header, flip, 100}},
		{"name of the format", small, damage{"format", middle, flip, 100}},
		{"byte of a table", large, damage{"*.sst", middle, flip, 8 << 10}},
		{"last byte of a table", large, damage{"*.sst", last, flip, 100}},
		{"byte of a large block of a table", large, damage{"*.sst", inWide, flip, 128 << 10}},
		{"table that ends too early", large, damage{"*.sst", middle, cut, 1}},
		{"table without its end", large, damage{"*.sst", last, cut, 100}},
		{"table that is missing", large, damage{"*.sst", nil, nil, -1}},
		{"journal that is missing", large, damage{"*.journal", nil, nil, -1}},
		{"list of tables that is missing", large, damage{"MANIFEST-*", nil, nil, -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			data := filepath.Join(dir, "store", "data")
			if err := os.CopyFS(data, os.DirFS(c.store)); err != nil {
				t.Fatal(err)
			}
			path, at := c.inflict(t, data)
			before := sums(t, data)
			code, said := outrigger(t, runOn(dir)...)
			if err := c.named(said, path, at); code != 2 || err != nil {
				t.Errorf("the sidecar ended with %d, want 2; %v:\n%s", code, err, said)
			}
			if after := sums(t, data); !maps.Equal(before, after) {
				t.Errorf("the files are not as they were: %d, before %d", len(after), len(before))
			}
			code, said = outrigger(t, "store", "verify", "-data-dir", dir)
			if err := c.named(said, path, at); code != 1 || err != nil {
				t.Errorf("verify ended with %d, want 1; %v:\n%s", code, err, said)
			}
			if after := sums(t, data); !maps.Equal(before, after) {
				t.Errorf("the files are not as they were after verify: %d, before %d", len(after), len(before))
			}
		})
	}
}

// TestStoreThatIsNotThere: who only looks makes no folder.
func TestStoreThatIsNotThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	for _, args := range [][]string{{"status"}, {"verify"}, {"compact"}, {"backup", filepath.Join(t.TempDir(), "copy")}} {
		code, said := outrigger(t, append([]string{"store", args[0], "-data-dir", dir}, args[1:]...)...)
		if code != 1 || !strings.Contains(said, dir) {
			t.Errorf("%s ended with %d, want 1 and the folder's name:\n%s", args[0], code, said)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Fatalf("%s made the folder", args[0])
		}
	}
}

// withoutLocks names the program that this process becomes, with flock answering what it does on a file system that has no locks.
const withoutLocks = "OUTRIGGER_TEST_WITHOUT_LOCKS"

func init() {
	path := os.Getenv(withoutLocks)
	if path == "" {
		return
	}
	runtime.LockOSThread() // the filter is this thread's, and then the program's
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_FLOCK},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOLCK)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	}
	if err == nil {
		err = syscall.Exec(path, append([]string{path}, os.Args[1:]...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, "flock cannot be kept from locking:", err)
	os.Exit(99)
}

// TestFileSystemWithoutLocks: who cannot know whether it is alone says so, and what to do.
func TestFileSystemWithoutLocks(t *testing.T) {
	const apart = "app: {id: a}\napi: {socket: none}\nmesh: {registry: \"\"}\n"
	for _, c := range []struct{ name, config, want, hint string }{
		{"the lock of the sockets", "", "a.sock.lock: no locks available", "-data-dir"},
		{"the store's lock", apart + "state: {default: {driver: local}}\n", `state "default" cannot be opened: not supported: the file system of `, "-data-dir"},
		{"the lock of a folder", apart + "registry: {central: {driver: file}}\n", "registry\": not supported: the file system does not lock", "local disk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			args := runOn(dir)
			if c.config != "" {
				path := filepath.Join(dir, "c.yaml")
				if err := os.WriteFile(path, []byte(c.config), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "-config", path)
			}
			code, said := finish(t, os.Args[0], []string{withoutLocks + "=" + harness.Binary(t)}, args...)
			if code != 2 || !strings.Contains(said, c.want) || !strings.Contains(said, c.hint) || strings.Contains(said, "another sidecar") {
				t.Errorf("it ended with %d, want 2, %q and %q:\n%s", code, c.want, c.hint, said)
			}
		})
	}
	t.Run("store run", func(t *testing.T) {
		code, said := finish(t, os.Args[0], []string{withoutLocks + "=" + harness.Binary(t)}, "store", "run", "-data-dir", t.TempDir())
		if code == 0 || !strings.Contains(said, "does not lock") || !strings.Contains(said, "-data-dir") {
			t.Errorf("it ended with %d:\n%s", code, said)
		}
	})
}

// probe asks admin of a sidecar.
func probe(t *testing.T, s *harness.Sidecar, path string) (code int, text string) {
	t.Helper()
	res, err := http.Get("http://" + s.Admin + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(body)
}

// expectProbe waits for an answer of admin.
func expectProbe(t *testing.T, s *harness.Sidecar, path string, code int, text string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		if gotCode, got := probe(t, s, path); gotCode != code || !strings.Contains(got, text) {
			return fmt.Errorf("%s answers %d %q, want %d %q", path, gotCode, got, code, text)
		}
		return nil
	})
}

// TestFullDiskOfASidecar: somebody else fills the disk. Writes are refused, reads go on, and who looks at the sidecar sees it; with room
// again all goes on by itself.
func TestFullDiskOfASidecar(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("outrigger-test", dir, "tmpfs", 0, "size=96m,mode=0700"); err != nil {
		t.Fatalf("a small file system is needed, and only root may mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	const required = "app: {id: a}\nmesh: {registry: \"\"}\nstate: {default: {driver: local, required: true}, other: {driver: local}}\n"
	s := harness.Start(t, harness.Options{App: "a", DataDir: dir, Config: required})
	c := states(t, s)
	fill(t, c, 100, 1000)
	expectProbe(t, s, "/readyz/outbound", 200, "ready")
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 96<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	_, err := c.Set(t.Context(), &statepb.SetRequest{Key: "more", Value: random(1000)})
	if status.Code(err) != codes.ResourceExhausted || reasonOf(err) != "STORE_DISK_FULL" {
		t.Errorf("a write on a full disk: %v", err)
	}
	expectProbe(t, s, "/readyz/outbound", 503, `required state "default" is failing`)
	expectProbe(t, s, "/info", 200, "the disk of the store is full")
	expectProbe(t, s, "/readyz", 200, "ready") // calls come in as before
	for i := range 100 {
		if _, err := c.Get(t.Context(), &statepb.GetRequest{Key: fmt.Sprintf("k1000-%05d", i)}); err != nil {
			t.Errorf("a read on a full disk: %v", err)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	expectProbe(t, s, "/readyz/outbound", 200, "ready\n")
	if _, err := c.Set(t.Context(), &statepb.SetRequest{Key: "more", Value: random(1000)}); err != nil {
		t.Errorf("a write with room again: %v", err)
	}
}
