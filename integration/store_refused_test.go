//go:build linux

package integration_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	statepb "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
)

// ready waits for the store, which a sidecar does not wait for when it starts.
func ready(t *testing.T, c statepb.StateClient) statepb.StateClient {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		_, err := c.Get(t.Context(), &statepb.GetRequest{Key: "k"})
		if status.Code(err) == codes.NotFound {
			return nil
		}
		return err
	})
	return c
}

// TestStoreOfALaterVersion: no command and no sidecar changes, or takes for damaged, what it does not know.
func TestStoreOfALaterVersion(t *testing.T) {
	data := storeOf(t, func(_ *harness.Sidecar, c statepb.StateClient) { fill(t, c, 20, 300) })
	dir := filepath.Dir(filepath.Dir(data))
	path := filepath.Join(data, "format")
	format, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	later := bytes.Replace(format, []byte("format 1"), []byte("format 9"), 1)
	if bytes.Equal(later, format) {
		t.Fatalf("the format is %q", format)
	}
	if err := os.WriteFile(path, later, 0o600); err != nil {
		t.Fatal(err)
	}
	before := sums(t, data)
	for _, c := range []struct {
		code int
		args []string
	}{
		{1, []string{"store", "verify", "-data-dir", dir}},
		{1, []string{"store", "compact", "-data-dir", dir}},
		{1, []string{"store", "backup", "-data-dir", dir, filepath.Join(t.TempDir(), "copy")}},
		{1, []string{"store", "restore", "-data-dir", t.TempDir(), data}},
		{2, []string{"store", "run", "-data-dir", dir}},
		{2, runOn(dir)},
	} {
		code, said := outrigger(t, c.args...)
		if code != c.code || !strings.Contains(said, "later version") || !strings.Contains(said, "format 9") {
			t.Errorf("%s ended with %d, want %d and that a later version wrote it:\n%s", c.args[:2], code, c.code, said)
		}
		if after := sums(t, data); !maps.Equal(before, after) {
			t.Fatalf("%s has changed the files", c.args[:2])
		}
	}
}

// TestDataFolderThatCannotBeUsed: who may make nothing in it says where, and what to do.
func TestDataFolderThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // no folder can be made here, not by root either
		t.Fatal(err)
	}
	if code, said := outrigger(t, runOn(dir)...); code != 2 || !strings.Contains(said, path) || !strings.Contains(said, "-data-dir") {
		t.Errorf("it ended with %d, want 2, %q and what to do:\n%s", code, path, said)
	}
}
