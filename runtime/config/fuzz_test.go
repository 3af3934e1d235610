package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// FuzzLoad holds that any text is either a configuration, which can be written and read again, or a list of faults that
// each have a position.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.bad.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(full)
	f.Add(before)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := variables.load(text)
		if err != nil {
			checkOrder(t, err)
			return
		}
		for _, component := range c.Components {
			if _, err := component.Resolve(func(component, key string) (string, error) { return key, nil }); err != nil && len(component.Secrets) == 0 {
				t.Errorf("%s was checked and fails: %v", component.Position, err)
			}
		}
		written, err := config.Dump(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := variables.load(string(written)); err != nil {
			t.Errorf("what Dump wrote has faults:\n%v\n%s", err, written)
		}
	})
}
