package runtime

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	goruntime "runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// bundle writes a tar.gz of what helps to find a fault. No secret is in it: the configuration has them masked, and the rest is what
// is shown elsewhere. What of it cannot be had is told by a line in its place.
func (s *sidecar) bundle(w io.Writer) error {
	zip := gzip.NewWriter(w)
	files := tar.NewWriter(zip)
	now := time.Now()
	for _, part := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"version.json", s.writeVersion}, {"status.json", s.writeStatus}, {"config.yaml", s.writeConfig}, {"metrics.txt", s.writeMetrics},
		{"goroutines.txt", func(w io.Writer) error { return pprof.Lookup("goroutine").WriteTo(w, 2) }},
		{"log.txt", func(w io.Writer) error { _, err := w.Write(s.telemetry.LastLog()); return err }},
	} {
		var text bytes.Buffer
		if err := part.write(&text); err != nil {
			fmt.Fprintf(&text, "\n%s cannot be had: %v\n", part.name, err)
		}
		header := &tar.Header{Name: "outrigger-" + s.app.App + "/" + part.name, Mode: 0o600, Size: int64(text.Len()), ModTime: now}
		if err := files.WriteHeader(header); err != nil {
			return err
		}
		if _, err := files.Write(text.Bytes()); err != nil {
			return err
		}
	}
	return errors.Join(files.Close(), zip.Close())
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (s *sidecar) writeStatus(w io.Writer) error {
	said := func(ok bool, why string) string {
		return map[bool]string{true: "ready", false: "not ready"}[ok] + map[bool]string{true: ": " + why}[why != ""]
	}
	return writeJSON(w, map[string]any{"readyz": said(s.ready()), "readyz_outbound": said(s.readyOutbound()), "info": s.info()})
}

func (s *sidecar) writeConfig(w io.Writer) error {
	text, err := config.Dump(s.config())
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

func (s *sidecar) writeMetrics(w io.Writer) error {
	all, err := s.telemetry.Metrics.Gather()
	for _, family := range all { // those that contradict each other are left out, and told of
		if _, failed := expfmt.MetricFamilyToText(w, family); failed != nil {
			return failed
		}
	}
	return err
}

// writeVersion tells what runs, and on what.
func (s *sidecar) writeVersion(w io.Writer) error {
	modules, settings := map[string]string{}, map[string]string{}
	if built, ok := debug.ReadBuildInfo(); ok {
		for _, m := range built.Deps {
			modules[m.Path] = m.Version
		}
		for _, setting := range built.Settings {
			settings[setting.Key] = setting.Value
		}
	}
	var memory goruntime.MemStats
	goruntime.ReadMemStats(&memory)
	return writeJSON(w, map[string]any{
		"version": s.opts.Version, "go": goruntime.Version(), "os": goruntime.GOOS, "arch": goruntime.GOARCH,
		"cpus": goruntime.NumCPU(), "gomaxprocs": goruntime.GOMAXPROCS(0), "memory_limit_bytes": debug.SetMemoryLimit(-1),
		"memory_sys_bytes": memory.Sys, "heap_bytes": memory.HeapAlloc, "gc_cycles": memory.NumGC,
		"pid": os.Getpid(), "time": time.Now().UTC(), "build": settings, "modules": modules,
	})
}
