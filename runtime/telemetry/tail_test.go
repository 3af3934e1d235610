package telemetry_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry"
)

// TestLastLog: all of the log is written, and its last whole lines are kept, 128 KiB of them at most.
func TestLastLog(t *testing.T) {
	var out bytes.Buffer
	tel, err := telemetry.New(t.Context(), config.Telemetry{}, telemetry.Info{App: "app", Output: &out})
	if err != nil {
		t.Fatal(err)
	}
	if got := tel.LastLog(); len(got) > 0 {
		t.Errorf("before anything is logged: %q", got)
	}
	tel.Logger.Info("first")
	if got := string(tel.LastLog()); !strings.Contains(got, "msg=first") || got != out.String() {
		t.Errorf("after a line: %q", got)
	}
	for n := range 5000 {
		tel.Logger.Info("line", "n", n)
	}
	got := string(tel.LastLog())
	if !strings.HasSuffix(out.String(), got) || !strings.HasSuffix(got, "n=4999\n") || !strings.HasPrefix(got, "time=") || len(got) > 128<<10 || len(got) < 127<<10 {
		t.Errorf("%d bytes are kept: %.100q to %q", len(got), got, got[max(0, len(got)-100):])
	}
	if lines := strings.Count(out.String(), "\n"); lines != 5001 {
		t.Errorf("%d lines were written", lines)
	}
}
