package backends_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// TestEtcdIsRestored: a sidecar is frozen while etcd is restored from a backup and written to, until it is further than it was. Of the watch no
// revision shows that what it was told last has never been.
func TestEtcdIsRestored(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "etcd")
	backup := t.TempDir()
	watcher, writer := harness.Start(t, harness.Options{App: "app", Config: etcdConfig(s)}), harness.Start(t, harness.Options{App: "app", Config: etcdConfig(s)})
	set := func(key, value string) (revision int) {
		t.Helper()
		harness.Eventually(t, patience, func() error {
			item, err := writer.Client().Config("").Set(t.Context(), client.ConfigItem{Key: key, Value: []byte(value)})
			if err == nil {
				revision, err = strconv.Atoi(item)
			}
			return err
		})
		return revision
	}
	restart := func(meanwhile func() error) {
		t.Helper()
		if err := s.Nodes[0].Stop(); err != nil {
			t.Fatal(err)
		}
		if err := meanwhile(); err != nil {
			t.Fatal(err)
		}
		if err := s.Nodes[0].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	set("watched", "kept")
	restart(func() error { return os.CopyFS(backup, os.DirFS(s.Nodes[0].Dir)) })
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	told, ended := make(chan string, 100), make(chan struct{})
	changes := watcher.Client().Config("").Watch(ctx, "watched")
	go func() {
		defer close(ended)
		for change, err := range changes {
			if err != nil {
				return
			}
			told <- string(change.Item.Value)
		}
	}()
	t.Cleanup(func() { stop(); <-ended })
	await := func(want string) {
		t.Helper()
		harness.Eventually(t, patience, func() error {
			select {
			case got := <-told:
				if got == want {
					return nil
				}
				return fmt.Errorf("the watch has told %q last", got)
			default:
				return fmt.Errorf("the watch has not told %q", want)
			}
		})
	}
	await("kept")
	last := set("watched", "lost")
	await("lost")

	watcher.Freeze()
	restart(func() error {
		if err := os.RemoveAll(s.Nodes[0].Dir); err != nil {
			return err
		}
		return os.CopyFS(s.Nodes[0].Dir, os.DirFS(backup))
	})
	for n := 0; set("other", strconv.Itoa(n)) <= last; n++ {
	}
	watcher.Signal(syscall.SIGCONT)
	await("kept")
}
