package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// featuresPage has the table of what holds for which protocol of the mesh, between two marks.
const (
	featuresPage  = "docs/mesh.md"
	featuresBegin = "<!-- features: made by docgen from what tests say that they show -->\n"
	featuresEnd   = "<!-- end of features -->\n"
)

var (
	featureFolders   = []string{"runtime/mesh", "integration/mesh", "integration/peers", "integration/backends"} // whose tests are asked
	featureProtocols = []struct{ name, title string }{{"http", "HTTP/1.1"}, {"grpc", "gRPC"}, {"bolt", "Bolt"}, {"dubbo", "Dubbo"}, {"tcp", "TCP"}}

	// A test says "feature: PROTOCOL..., WHAT" of what it shows; it holds if the test passes.
	featureLine = regexp.MustCompile(`(?m)^func (Test\w+)\(|^\tt\.Log\(("feature: .*")\)$`)
)

// feature is a row of the table: the tests that show it, by protocol.
type feature struct {
	name  string
	shown map[string][]string
}

// readFeatures finds what tests below root say.
func readFeatures(root string) (rows map[string]feature, err error) {
	rows = map[string]feature{}
	for _, folder := range featureFolders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(root, path)
			return addFeatures(rows, filepath.ToSlash(filepath.Dir(rel)), string(text))
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// readResults finds what tests have said that have passed: a line for each, of folder, test and what it said.
func readResults(paths []string) (rows map[string]feature, err error) {
	rows = map[string]feature{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
			if len(f) != 3 {
				return nil, fmt.Errorf("%s: %q: write FOLDER, TEST and what it said, with tabs between", path, line)
			}
			if err := addFeature(rows, f[0], f[1], f[2]); err != nil {
				return nil, err
			}
		}
	}
	return rows, nil
}

func addFeatures(rows map[string]feature, folder, text string) error {
	test := ""
	for _, m := range featureLine.FindAllStringSubmatch(text, -1) {
		if m[1] != "" {
			test = m[1]
			continue
		}
		line, err := strconv.Unquote(m[2])
		if err != nil {
			return fmt.Errorf("%s: %s: %w", folder, m[2], err)
		}
		if err := addFeature(rows, folder, test, line); err != nil {
			return err
		}
	}
	return nil
}

func addFeature(rows map[string]feature, folder, test, line string) error {
	protocols, name, ok := strings.Cut(strings.TrimPrefix(line, "feature: "), ", ")
	if !ok || test == "" {
		return fmt.Errorf("%s: %q: write feature: PROTOCOL..., WHAT within a test", folder, line)
	}
	if rows[name].shown == nil {
		rows[name] = feature{name, map[string][]string{}}
	}
	for _, p := range strings.Fields(protocols) {
		if !slices.ContainsFunc(featureProtocols, func(known struct{ name, title string }) bool { return known.name == p }) {
			return fmt.Errorf("%s: %q: unknown protocol %q", folder, line, p)
		}
		rows[name].shown[p] = append(rows[name].shown[p], "`"+test+"` in `"+folder+"`")
	}
	return nil
}

// featureTable is the block of the page, the same in whatever order tests have run.
func featureTable(rows map[string]feature) []byte {
	all := slices.SortedFunc(maps.Values(rows), func(a, b feature) int {
		return strings.Compare(strings.ToLower(strings.Trim(a.name, "`")), strings.ToLower(strings.Trim(b.name, "`")))
	})
	b := bytes.NewBufferString(featuresBegin + "\n| |")
	for _, p := range featureProtocols {
		b.WriteString(" " + p.title + " |")
	}
	b.WriteString(" shown by |\n|---|" + strings.Repeat("---|", len(featureProtocols)+1) + "\n")
	for _, f := range all {
		b.WriteString("| " + f.name + " |")
		var tests []string
		for _, p := range featureProtocols {
			cell := " "
			if len(f.shown[p.name]) > 0 {
				cell = " yes "
			}
			b.WriteString(cell + "|")
			for _, test := range slices.Sorted(slices.Values(f.shown[p.name])) {
				if !slices.Contains(tests, test) {
					tests = append(tests, test)
				}
			}
		}
		b.WriteString(" " + strings.Join(tests, "; ") + " |\n")
	}
	b.WriteString("\n" + featuresEnd)
	return b.Bytes()
}

// features writes the table into the page, or tells that it is not current: of what sources say, or of results if there are files of them.
func features(root, results string, check bool) error {
	rows, err := readFeatures(root)
	if results != "" {
		rows, err = readResults(strings.Split(results, ","))
	}
	if err != nil {
		return err
	}
	path := filepath.Join(root, featuresPage)
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, begun := bytes.Cut(page, []byte(featuresBegin))
	_, tail, ended := bytes.Cut(rest, []byte(featuresEnd))
	if !begun || !ended {
		return errors.New(featuresPage + " has no place for the table of features")
	}
	made := slices.Concat(head, featureTable(rows), tail)
	switch {
	case bytes.Equal(made, page):
		return nil
	case check && results != "":
		return fmt.Errorf("%s has not what tests have shown:\n%s", featuresPage, changed(page, made))
	case check:
		return errors.New(featuresPage + " is not current (run make gen)")
	}
	return os.WriteFile(path, made, 0o644)
}

// changed are the lines that only one of two pages has.
func changed(is, shown []byte) string {
	var b strings.Builder
	for _, side := range []struct {
		sign      string
		of, other []byte
	}{{"- ", is, shown}, {"+ ", shown, is}} {
		for line := range bytes.Lines(side.of) {
			if !bytes.Contains(side.other, line) {
				b.WriteString(side.sign + string(line))
			}
		}
	}
	return b.String()
}
