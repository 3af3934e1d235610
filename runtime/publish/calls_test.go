package publish_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/runtime/publish"
)

// A change takes as long as the disk, or another process that has the file, makes it: calls do not wait for it.
func TestCallsDoNotWaitForAChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.json")
	b := start(t, file)
	_, port := serve(t, 0)
	b.publish(t, publish.Publication{Service: service("s0"), Port: port})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	changed := make(chan error, 1)
	go func() {
		_, err := b.Publish(t.Context(), publish.Publication{Service: service("s1"), Port: port})
		changed <- err
	}()
	reader, err := os.OpenFile(file, os.O_WRONLY, 0) // when the change reads what is there, and waits for this to be closed
	if err != nil {
		t.Fatal(err)
	}
	called := make(chan bool, 1)
	go func() {
		_, ok := b.Port("s0", "")
		called <- ok && b.Uses(port) && b.Serves("s0") && !b.Serves("s1")
	}()
	select {
	case ok := <-called:
		if !ok {
			t.Error("what was published is not served while something else is")
		}
	case <-time.After(10 * time.Second):
		t.Error("a call waits for a change")
	}
	reader.Close()
	if err := <-changed; err != nil || !b.Serves("s1") {
		t.Errorf("%v, served %v", err, b.Serves("s1"))
	}
}

// A call that several protocols would do for finds its service by each of them.
func TestPortByOneOfSeveralProtocols(t *testing.T) {
	b := start(t, "")
	s := service("stock")
	s.Protocol = "http"
	_, port := serve(t, 0)
	b.publish(t, publish.Publication{Service: s, Port: port})
	for _, c := range []struct {
		protocols []string
		want      int
	}{{[]string{"grpc", "http", ""}, port}, {[]string{"http"}, port}, {[]string{"grpc", ""}, 0}, {nil, 0}} {
		if got, ok := b.Port("stock", c.protocols...); got != c.want || ok != (c.want != 0) {
			t.Errorf("%q: port %d, %v, want %d", c.protocols, got, ok, c.want)
		}
	}
}
