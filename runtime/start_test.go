package runtime_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime"
)

// A component that is required and cannot be opened ends the start, with the reason.
func TestRequiredComponentThatCannotBeOpened(t *testing.T) {
	s, err := begin(t, "secret: {s: {driver: file, required: true, options: {dir: /no/such/folder}}}\nreload: {timeout: 1s}\n")
	if !errors.Is(err, runtime.ErrStart) || !strings.Contains(err.Error(), "/no/such/folder") || !strings.Contains(err.Error(), `secret "s"`) {
		t.Fatalf("ended with %v, having said %q", err, s.out.String())
	}
}

// A sidecar that was told to end before it was ready has not done what it was started for.
func TestSignalBeforeItIsReady(t *testing.T) {
	s := launch(t, "secret: {s: {driver: file, required: true, options: {dir: /no/such/folder}}}\nreload: {timeout: 100h}\n")
	s.signals <- syscall.SIGTERM
	if err := s.wait(t); !errors.Is(err, runtime.ErrStart) || !strings.Contains(err.Error(), "before it was ready") {
		t.Fatalf("ended with %v", err)
	}
}
