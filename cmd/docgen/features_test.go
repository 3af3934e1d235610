package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFeaturesAreCurrent(t *testing.T) {
	if err := features("../..", "", true); err != nil {
		t.Error(err)
	}
}

// What a test says is in the table, under each protocol that it names, and what it does not say is not.
func TestFeaturesAreWhatTestsSay(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range featureFolders {
		put(folder+"/empty_test.go", "package empty\n")
	}
	put(featuresPage, "before\n"+featuresBegin+"old\n"+featuresEnd+"after\n")
	put("runtime/mesh/a/a_test.go", "func TestOne(t *testing.T) {\n\tt.Log(\"feature: bolt dubbo, one-way calls\")\n}\nfunc TestTwo(t *testing.T) {\n\tt.Log(\"feature: http, one-way calls\")\n}\n")
	if err := features(root, "", true); err == nil || !strings.Contains(err.Error(), "run make gen") {
		t.Errorf("a table that is old: %v", err)
	}
	if err := features(root, "", false); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, featuresPage))
	if want := "| one-way calls | yes | | yes | yes | | `TestTwo` in `runtime/mesh/a`; `TestOne` in `runtime/mesh/a` |\n"; err != nil || !strings.Contains(string(text), want) ||
		!strings.HasPrefix(string(text), "before\n") || !strings.HasSuffix(string(text), "after\n") || strings.Contains(string(text), "old") {
		t.Errorf("wrote %s, %v", text, err)
	}
	if err := features(root, "", true); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{"func TestOne(t *testing.T) {\n\tt.Log(\"feature: tars, x\")\n", "func TestOne(t *testing.T) {\n\tt.Log(\"feature: bolt\")\n", "\tt.Log(\"feature: bolt, x\")\n"} {
		put("runtime/mesh/a/a_test.go", wrong)
		if err := features(root, "", true); err == nil || !strings.Contains(err.Error(), "feature: ") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// What tests have shown is what the table has, not more and not less.
func TestFeaturesAreWhatTestsHaveShown(t *testing.T) {
	root := t.TempDir()
	for _, folder := range append(featureFolders, "docs") {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, text string) string {
		path := filepath.Join(root, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put(featuresPage, featuresBegin+featuresEnd)
	unit := put("unit", "runtime/mesh\tTestB\tfeature: bolt dubbo, one-way calls\nruntime/mesh\tTestA\tfeature: bolt, one-way calls\n")
	more := put("more", "integration/mesh\tTestC\tfeature: tcp, bodies\n")
	both := unit + "," + more
	if err := features(root, both, false); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, featuresPage))
	if want := "| bodies | | | | | yes | `TestC` in `integration/mesh` |\n| one-way calls | | | yes | yes | | `TestA` in `runtime/mesh`; `TestB` in `runtime/mesh` |\n"; err != nil || !strings.Contains(string(text), want) {
		t.Errorf("wrote %s, %v", text, err)
	}
	if err := features(root, more+","+unit, true); err != nil {
		t.Error(err)
	}
	if err := features(root, unit, true); err == nil || !strings.Contains(err.Error(), "- | bodies |") {
		t.Errorf("a row that no test has shown: %v", err)
	}
	put("more", "integration/mesh\tTestC\tfeature: tcp, bodies\nintegration/mesh\tTestD\tfeature: http, streams\n")
	if err := features(root, both, true); err == nil || !strings.Contains(err.Error(), "+ | streams |") {
		t.Errorf("a test whose row is missing: %v", err)
	}
}
