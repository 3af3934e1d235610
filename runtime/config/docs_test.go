package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The page on configuration shows faults as they are told.
func TestDocsShowRealFaults(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("testdata/*.want")
	var real strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		real.Write(text)
	}
	_, faults, _ := strings.Cut(string(page), "## Faults")
	shown := 0
	for line := range strings.Lines(faults) {
		if _, fault, is := strings.Cut(strings.TrimSpace(line), "orders.yaml:"); is {
			shown++
			if !strings.Contains(real.String(), ".bad.yaml:"+fault+"\n") {
				t.Errorf("no file of testdata has the fault %s", fault)
			}
		}
	}
	if shown < 40 {
		t.Errorf("only %d faults are shown", shown)
	}
}
