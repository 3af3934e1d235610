package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/identity"
)

// What is wrong with the sidecar's own files is there to be asked for, while it is wrong; a certificate out of its time is logged once.
func TestTroubleWithOwnFiles(t *testing.T) {
	ca, log, dir := newAuthority(t), &logged{}, t.TempDir()
	f := ca.write(t, dir, stockID, later, ca)
	if err := os.Rename(f.Key, f.Key+".away"); err != nil {
		t.Fatal(err)
	}
	s := identity.NewStore(f, slog.New(slog.NewTextHandler(log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Watch(ctx) }()
	defer func() { cancel(); <-done }()
	is := func(want string) {
		t.Helper()
		eventually(t, func() error {
			if got := s.Trouble(); !strings.HasPrefix(got, want) || want == "" && got != "" {
				return fmt.Errorf("trouble %q, want %q", got, want)
			}
			return nil
		})
	}
	is("no certificate: mesh.tls.key: open " + f.Key)
	if err := os.Rename(f.Key+".away", f.Key); err != nil {
		t.Fatal(err)
	}
	is("")
	if err := os.Rename(f.Key, f.Key+".away"); err != nil {
		t.Fatal(err)
	}
	is("the files cannot be used, what was there before is: mesh.tls.key: open ")
	if err := os.Rename(f.Key+".away", f.Key); err != nil {
		t.Fatal(err)
	}
	is("")
	ca.write(t, dir, stockID, time.Now().Add(-time.Hour), ca)
	is("mesh.tls.certificate: it is not valid at this time: it is for ")
	eventually(t, func() error {
		if n := strings.Count(log.String(), "level=ERROR msg=\"the certificate of mesh.tls is refused by other sidecars\""); n != 1 {
			return errors.New(log.String())
		}
		return nil
	})
	ca.write(t, dir, stockID, later, ca)
	is("")
}
