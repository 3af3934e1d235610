package runtime_test

import (
	"errors"
	"fmt"
	"net"
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

// Each port that only the file sets is taken at the start or the sidecar does not start, and says which it is.
func TestPortsThatAreTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().String()
	const file = "registry: {default: {driver: file}}\n"
	for setting, text := range map[string]string{
		"admin.probes":          fmt.Sprintf("admin: {probes: %q}\n", taken),
		"mesh.sofarpc.control":  file + fmt.Sprintf("mesh: {registry: default, sofarpc: {control: %q, outbound: '127.0.0.1:0'}}\n", taken),
		"mesh.sofarpc.outbound": file + fmt.Sprintf("mesh: {registry: default, sofarpc: {control: '127.0.0.1:0', outbound: %q}}\n", taken),
		"mesh.outbound.tcp":     file + fmt.Sprintf("mesh: {registry: default, outbound: {tcp: [{address: %q, service: prices}]}}\n", taken),
	} {
		if s, err := begin(t, text); !errors.Is(err, runtime.ErrStart) || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s: ended with %v, having said %q", setting, err, s.out.String())
		}
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
