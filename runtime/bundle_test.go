package runtime_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unpacked are the files of a tar.gz.
func unpacked(t *testing.T, in io.Reader) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for all := tar.NewReader(zip); ; {
		header, err := all.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(all)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(text)
	}
}

// TestBundle: all parts are there and tell what they are for, and none has a secret, however it came into the configuration.
func TestBundle(t *testing.T) {
	const canary = "canary-31c7"
	t.Setenv("BUNDLE_PASSWORD", canary+"-env")
	t.Setenv("OUTRIGGER_BUNDLE_SECRET", canary+"-secret")
	s := start(t, `mesh: {registry: ""}
secret: {vault: {driver: env, options: {prefix: OUTRIGGER_BUNDLE_}}}
cache:
  default: {driver: memory}
  written: {driver: redis, options: {redis: {addresses: ["127.0.0.1:1"], password: `+canary+`-written}}}
  env: {driver: redis, options: {redis: {addresses: ["127.0.0.1:1"], password: "${env:BUNDLE_PASSWORD}"}}}
  secret: {driver: redis, options: {redis: {addresses: ["127.0.0.1:1"], password: "${secret:vault/SECRET}"}}}
drain: {propagation: 10ms}
`)
	h := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(s.dir, "run", "default", "stock.admin.sock"))
	}}}
	defer h.CloseIdleConnections()
	eventually(t, func() error { // that Redis cannot be reached has been said
		if _, info := s.get("/info"); strings.Count(info, "connection refused") < 2 {
			return errors.New(info)
		}
		return nil
	})
	req, err := http.NewRequestWithContext(within(t, 10*time.Second), http.MethodGet, "http://localhost/debug/bundle", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	files := unpacked(t, res.Body)
	for name, want := range map[string][]string{
		"version.json": {`"version": "test"`, `"go": "go1`, `"modules": `}, "status.json": {`"readyz": "ready"`, `"state": "failing"`, "127.0.0.1:1"},
		"config.yaml": {"driver: redis", "${env:BUNDLE_PASSWORD}"}, "metrics.txt": {"outrigger_component_up{", "go_goroutines"},
		"goroutines.txt": {"goroutine ", "runtime.(*sidecar)"}, "log.txt": {"level=", "app=stock"},
	} {
		text := files["outrigger-stock/"+name]
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %q: %.2000s", name, part, text)
			}
		}
	}
	if len(files) != 6 {
		t.Errorf("there are %d files", len(files))
	}
	for name, text := range files {
		if strings.Contains(text, canary) {
			t.Errorf("a secret is in %s: %s", name, text)
		}
	}
	if !json.Valid([]byte(files["outrigger-stock/version.json"])) || !json.Valid([]byte(files["outrigger-stock/status.json"])) {
		t.Error("what should be JSON is not")
	}
	if code, said := s.get("/debug/bundle"); code != http.StatusForbidden || !strings.Contains(said, "admin socket") {
		t.Errorf("over TCP: %d %s", code, said)
	}
}
