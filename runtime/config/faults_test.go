package config_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

var update = flag.Bool("update", false, "write the .want files from what is said now")

// variables are what the files in testdata can refer to.
var variables = world{"PASSWORD": "hunter2", "NEGATIVE": "-77000ms", "NUMBER": "4711", "LONG": "7200000ms", "SHORT": "no", "PORT": "8080"}

// TestFaults holds each file of testdata to the text beside it.
func TestFaults(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	env := variables.environment()
	env.ReadFile = os.ReadFile
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bad.yaml")
		t.Run(name, func(t *testing.T) {
			c, err := config.Load(file, config.Overrides{}, env)
			if c != nil || !errors.Is(err, components.ErrInvalid) {
				t.Fatalf("got %v and %v, want faults", c, err)
			}
			checkOrder(t, err)
			got, beside := err.Error()+"\n", "testdata/"+name+".want"
			if *update {
				if err := os.WriteFile(beside, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(beside)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// checkOrder holds that every fault has a position and that they come in the order of the file.
func checkOrder(t *testing.T, err error) {
	t.Helper()
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("%T is not a list of faults: %v", err, err)
	}
	for i, f := range faults {
		if f.Line < 1 || f.Column < 1 || f.File == "" || f.Message == "" || strings.Contains(f.Message, "\n") {
			t.Errorf("fault without a position or of several lines: %#v", f)
		}
		if i > 0 && (f.Line < faults[i-1].Line || f.Line == faults[i-1].Line && f.Column < faults[i-1].Column) {
			t.Errorf("%v comes after %v", f, faults[i-1])
		}
	}
}
