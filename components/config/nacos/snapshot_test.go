package nacos

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

// TestASnapshotThatCouldNotBeWritten is written when the value is read the next time, though it is the same.
func TestASnapshotThatCouldNotBeWritten(t *testing.T) {
	const key = "ns/k"
	env := components.Env{ID: components.ID{Name: "c"}, DataDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	value := state{nacosconn.ConfigAnswer{Content: "v", MD5: "v", Modified: 1}, true}
	s, err := openSnapshot(env, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	inTheWay := filepath.Join(s.dir.Name(), s.own, fileOf(key))
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	s.put(key, value)
	s.end() // what is pending is tried
	s.ended.Wait()
	if _, ok := s.get(key); ok {
		t.Fatal("it was written: this shows nothing")
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	s.put(key, value)
	for _, k := range s.take() {
		if err := s.write(k); err != nil {
			t.Fatal(err)
		}
	}
	if item, ok := s.get(key); !ok || string(item.Value) != "v" {
		t.Errorf("it has %v, %t after the disk could be written again", item, ok)
	}
}
