package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCheckDialWritesWhereTheSidecarWould and tells which setting is wrong, before and beside what components say.
func TestCheckDialWritesWhereTheSidecarWould(t *testing.T) {
	dir := t.TempDir()
	file, pipe, log := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "access.log")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	for _, c := range []struct {
		data, log string
		code      int
		want      []string
	}{
		{data, log, 0, []string{"a.yaml: data_dir (" + data + "): ok", "a.yaml: telemetry.access_log (" + log + "): ok", `cache "default" (memory): ok`}},
		{data, "stdout", 0, []string{"data_dir (" + data + "): ok"}},
		{data, file, 0, []string{"telemetry.access_log (" + file + "): ok"}},
		{data, pipe, 1, []string{"a.yaml:3:25: telemetry.access_log: open " + pipe, `cache "default" (memory): ok`}},
		{data, filepath.Join(dir, "nowhere", "log"), 1, []string{"a.yaml:3:25: telemetry.access_log: ", "no such file", `cache "default" (memory): ok`}},
		{file, dir, 1, []string{"a.yaml:2:11: data_dir: ", "not a directory", "a.yaml:3:25: telemetry.access_log: ", "is a directory"}},
		{"/proc/self", "off", 1, []string{"a.yaml:2:11: data_dir: "}}, // nobody can write there
	} {
		path := filepath.Join(dir, "a.yaml")
		text := fmt.Sprintf("app: {id: orders}\ndata_dir: %s\ntelemetry: {access_log: %s}\ncache: {default: {driver: memory}}\n", c.data, c.log)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if code := dispatch([]string{"check", "-dial", "-config", path}, &out, &out); code != c.code {
			t.Errorf("code %d, want %d:\n%s", code, c.code, out.String())
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("it does not say %q:\n%s", want, out.String())
			}
		}
	}
	if text, err := os.ReadFile(file); string(text) != "x" {
		t.Errorf("the file has %q, %v", text, err)
	}
	left, err := os.ReadDir(data)
	if _, made := os.Stat(log); err != nil || len(left) > 0 || made == nil {
		t.Errorf("left behind: %v in the folder, %v; an access log: %v", left, err, made == nil)
	}
}
