package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var reasonText = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)

// Reasons finds the error reasons in Go files, with where each is first seen: constants that are called Reason or are of that
// type, and literals given as one.
func Reasons(files map[string]string) (map[string]string, error) {
	found := map[string]string{}
	fset := token.NewFileSet()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, "_test.go") || generated(files[name]) {
			continue
		}
		file, err := parser.ParseFile(fset, name, files[name], parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for _, lit := range reasonsIn(n) {
				text, err := strconv.Unquote(lit.Value)
				if err != nil || !reasonText.MatchString(text) {
					continue
				}
				if _, ok := found[text]; !ok {
					found[text] = fset.Position(lit.Pos()).String()
				}
			}
			return true
		})
	}
	return found, nil
}

// reasonsIn answers the literals that a node makes reasons of.
func reasonsIn(n ast.Node) []*ast.BasicLit {
	switch n := n.(type) {
	case *ast.ValueSpec:
		if nameOf(n.Type) == "Reason" || len(n.Names) > 0 && strings.HasPrefix(n.Names[0].Name, "Reason") {
			return literals(n.Values)
		}
	case *ast.KeyValueExpr:
		if nameOf(n.Key) == "Reason" {
			return literals([]ast.Expr{n.Value})
		}
	case *ast.CallExpr:
		switch nameOf(n.Fun) {
		case "Reason":
			return literals(n.Args)
		case "WithReason":
			if len(n.Args) > 1 {
				return literals(n.Args[1:2])
			}
		}
	}
	return nil
}

// nameOf is the last name of x or of pkg.x.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func literals(exprs []ast.Expr) (all []*ast.BasicLit) {
	for _, e := range exprs {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			all = append(all, lit)
		}
	}
	return all
}

var reasonHeading = regexp.MustCompile("(?m)^#+ `?([A-Z][A-Z0-9_]*)`?$")

// ReasonFaults compares the reasons with the page that explains them: a heading each, with something below it.
func ReasonFaults(reasons map[string]string, page string) (faults []string) {
	headings := reasonHeading.FindAllStringSubmatchIndex(page, -1)
	explained := map[string]bool{}
	for i, h := range headings {
		reason, end := page[h[2]:h[3]], len(page)
		if i+1 < len(headings) {
			end = headings[i+1][0]
		}
		body, _, _ := strings.Cut(page[h[1]:end], "\n#")
		switch _, known := reasons[reason]; {
		case explained[reason]:
			faults = append(faults, reason+": explained twice")
		case !known:
			faults = append(faults, reason+": explained, but nothing answers it")
		case strings.TrimSpace(body) == "":
			faults = append(faults, reason+": a heading and nothing below it")
		}
		explained[reason] = true
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		if !explained[reason] {
			faults = append(faults, fmt.Sprintf("%s: %s is not explained in docs/errors.md", reasons[reason], reason))
		}
	}
	return faults
}
