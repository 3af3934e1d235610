package house_test

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each row of a table in docs/guarantees.md says in its last cell what shows that it holds: tests, cases of suites, make targets.
// They are looked for in the folders that the cell and its section name. Each driver is told of.

// evidence is what a page may name.
type evidence struct {
	folders map[string]bool
	tests   map[string][]string        // where there is one of that name
	cases   map[string]map[string]bool // of suites, by folder
	targets map[string]bool            // of make
	quoted  string                     // tests, where names of subtests are
	drivers map[string][]string        // by capability
}

var (
	testFunc   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	suiteCase  = regexp.MustCompile(`\{"([A-Z]\w+)",`)
	makeTarget = regexp.MustCompile(`(?m)^([a-z0-9-]+):`)
	registered = regexp.MustCompile(`components\.Register\((\w+)\.Drivers, "(\w+)"`)
	codeSpan   = regexp.MustCompile("`([^`]+)`")
	caseName   = regexp.MustCompile(`^[A-Z]\w+$`)
)

func gather(files map[string]string) evidence {
	e := evidence{map[string]bool{}, map[string][]string{}, map[string]map[string]bool{}, map[string]bool{}, "", map[string][]string{}}
	for name, text := range files {
		dir := path.Dir(name)
		for d := dir; d != "."; d = path.Dir(d) {
			e.folders[d] = true
		}
		switch {
		case path.Base(name) == "Makefile":
			for _, m := range makeTarget.FindAllStringSubmatch(text, -1) {
				e.targets[m[1]] = true
			}
		case strings.HasSuffix(name, "_test.go"):
			for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
				e.tests[m[1]] = append(e.tests[m[1]], dir)
			}
			e.quoted += text
		case strings.HasPrefix(name, "components/") && strings.HasSuffix(dir, "test"):
			if e.cases[dir] == nil {
				e.cases[dir] = map[string]bool{}
			}
			for _, m := range suiteCase.FindAllStringSubmatch(text, -1) {
				e.cases[dir][m[1]] = true
			}
		case strings.HasPrefix(name, "components/"):
			for _, m := range registered.FindAllStringSubmatch(text, -1) {
				e.drivers[m[1]] = append(e.drivers[m[1]], m[2])
			}
		}
	}
	return e
}

func guaranteeFaults(page string, e evidence) (faults []string) {
	told := map[string]string{} // what sections say, by the folders that they name
	for _, section := range strings.Split(page, "\n## ")[1:] {
		var prose, rows []string
		for line := range strings.Lines(section) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "|") {
				rows = append(rows, line)
			} else {
				prose = append(prose, line)
			}
		}
		around, _ := e.spans(strings.Join(prose, "\n"))
		for _, f := range around {
			told[f] += section
		}
		if len(rows) < 3 {
			continue
		}
		for _, row := range rows[2:] {
			cells := strings.Split(strings.Trim(row, "|"), "|")
			for _, f := range e.cellFaults(cells[len(cells)-1], around) {
				faults = append(faults, fmt.Sprintf("%s: %s", strings.TrimSpace(cells[0]), f))
			}
		}
	}
	for capability, drivers := range e.drivers {
		for _, d := range drivers {
			if !strings.Contains(told["components/"+capability+"/"+capability+"test"], "`"+d+"`") {
				faults = append(faults, fmt.Sprintf("of the driver %s of %s nothing is said", d, capability))
			}
		}
	}
	return faults
}

// spans are the folders and the other things that a text names as code.
func (e evidence) spans(text string) (folders, others []string) {
	for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
		if e.folders[m[1]] {
			folders = append(folders, m[1])
		} else {
			others = append(others, m[1])
		}
	}
	return folders, others
}

func (e evidence) cellFaults(cell string, around []string) (faults []string) {
	within, named := e.spans(cell)
	within = append(within, around...)
	for _, name := range named {
		if why := e.shows(name, within); why != "" {
			faults = append(faults, why)
		}
	}
	if len(named) == 0 {
		faults = append(faults, "nothing shows it")
	}
	return faults
}

// shows answers why a name is nothing that shows anything; "" if it is.
func (e evidence) shows(name string, within []string) string {
	if command, ok := strings.CutPrefix(name, "make "); ok {
		target, only, _ := strings.Cut(command, " ONLY=")
		if !e.targets[target] || only != "" && !strings.Contains(e.quoted, `"`+path.Base(only)+`"`) {
			return "there is no " + name
		}
		return ""
	}
	if testFunc.MatchString("func " + name + "(") {
		for _, dir := range e.tests[name] {
			for _, w := range within {
				if dir == w || strings.HasPrefix(dir, w+"/") {
					return ""
				}
			}
		}
		return fmt.Sprintf("there is no %s in %q", name, within)
	}
	if !caseName.MatchString(name) {
		return name + " is neither a folder nor a test"
	}
	for _, dir := range within {
		if e.cases[dir][name] {
			return ""
		}
	}
	return "no suite has the case " + name
}

var testFile = regexp.MustCompile(`^[\w./-]+_test\.go$`)

// pageFaults are the tests, and files of them, that a page names and that are not there.
func pageFaults(page string, e evidence, files map[string]string) (faults []string) {
	_, others := e.spans(page)
	for _, name := range others {
		_, file := files[name]
		if testFunc.MatchString("func "+name+"(") && e.tests[name] == nil || testFile.MatchString(name) && !file {
			faults = append(faults, "there is no "+name)
		}
	}
	return faults
}

func TestPageRule(t *testing.T) {
	tree := map[string]string{"jar/glass_test.go": "func TestGlass(t *testing.T) {}\nfunc FuzzGlass(f *testing.F) {}\n"}
	page := "| a trap | how |\n|---|---|\n| one | `TestGlass`, `FuzzGlass`; `jar/glass_test.go`, `make jar`, `Test` |\n| two | `TestPlastic` |\nAnd `jar/tin_test.go`.\n"
	expect(t, pageFaults(page, gather(tree), tree), "there is no TestPlastic", "there is no jar/tin_test.go")
}

// Whatever page says that a test shows something, as docs/mesh/rpc.md does of each trap.
func TestTreePages(t *testing.T) {
	tree := files(t, ".go", ".md")
	e := gather(tree)
	named := 0
	for name, page := range tree {
		if strings.HasSuffix(name, ".md") {
			named += strings.Count(page, "`Test")
			for _, f := range pageFaults(page, e, tree) {
				t.Errorf("%s: %s", name, f)
			}
		}
	}
	if named < 300 {
		t.Errorf("pages name %d tests: the search misses most", named)
	}
}

func TestGuaranteeRule(t *testing.T) {
	e := gather(map[string]string{
		"components/jar/jartest/suite.go":    `var all = []test{{"Holds", holds}, {"Keeps", keeps}}`,
		"components/jar/glass/glass.go":      `func init() { components.Register(jar.Drivers, "glass", Options{}, Open) }`,
		"components/jar/tin/tin.go":          `func init() { components.Register(jar.Drivers, "tin", Options{}, Open) }`,
		"components/jar/glass/glass_test.go": "func TestGlass(t *testing.T) {}\n",
		"integration/jar_test.go":            "func TestAll(t *testing.T) { t.Run(\"jar-falls\", falls) }\nfunc FuzzJar(f *testing.F) {}\n",
		"Makefile":                           "integration: build\n",
	})
	page := "# Page\n\n## Jars\n\nSuite: `components/jar/jartest`, drivers in `components/jar`: `glass`.\n\n| promised | by | shown by |\n|---|---|---|\n"
	for _, row := range []string{
		"| good | all | `Holds`, `TestGlass`, `TestAll` and `FuzzJar` in `integration` |", "| also good | all | `Keeps`; `make integration ONLY=jars/jar-falls` |",
		"| a | all | by construction |", "| b | all | `Leaks` |", "| c | all | `TestPlastic` |", "| d | all | `TestAll` |", "| e | all | `components/jar/glass`: `TestAll` |",
		"| f | all | `make jam` |", "| g | all | `make integration ONLY=jars/jar-flies` |", "| h | all | `components/jug` |", "| i | all | `fences` |",
	} {
		page += row + "\n"
	}
	expect(t, guaranteeFaults(page, e), "a: nothing shows it", "b: no suite has the case Leaks", "c: there is no TestPlastic", "d: there is no TestAll in",
		"e: there is no TestAll in", "f: there is no make jam", "g: there is no make integration", "h: components/jug is neither", "i: fences is neither",
		"of the driver tin of jar nothing is said")
}

func TestTreeGuarantees(t *testing.T) {
	tree := files(t, ".go", "Makefile", "guarantees.md")
	page := tree["docs/guarantees.md"]
	e := gather(tree)
	if len(e.drivers) < 8 || len(e.tests) < 500 || len(e.cases) < 8 || strings.Count(page, "\n|") < 80 {
		t.Fatalf("the search misses much of what is there: drivers of %q, %d tests, %d suites, %d rows", slices.Sorted(maps.Keys(e.drivers)), len(e.tests),
			len(e.cases), strings.Count(page, "\n|"))
	}
	none(t, guaranteeFaults(page, e))
}
