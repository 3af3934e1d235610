package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
)

// wellKnown are methods whose interface, of the standard library, says all there is to say.
var wellKnown = []string{"Error", "Unwrap", "Is", "As", "String", "GoString", "LogValue", "MarshalText", "UnmarshalText",
	"MarshalJSON", "UnmarshalJSON", "GRPCStatus", "Len", "Less", "Swap"}

// CommentFaults finds what is exported from the Go files without a comment, and packages that do not say what they are for. A
// method may be told of in the comment of its type, or in an interface of its package that has it too.
func CommentFaults(files map[string]string) (faults []string, err error) {
	fset := token.NewFileSet()
	dirs := map[string][]*ast.File{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, "_test.go") || generated(files[name]) {
			continue
		}
		file, err := parser.ParseFile(fset, name, files[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		dirs[path.Dir(name)] = append(dirs[path.Dir(name)], file)
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if !slices.ContainsFunc(dirs[dir], func(f *ast.File) bool { return f.Doc != nil }) {
			faults = append(faults, dir+": no package comment")
		}
		for _, id := range undocumented(dirs[dir]) {
			faults = append(faults, fmt.Sprintf("%s: %s has no comment", fset.Position(id.Pos()), id.Name))
		}
	}
	return faults, nil
}

// told is what comments of a package say of things that have no comment themselves.
type told struct {
	types   map[string]string // the comment of each type
	methods map[string]bool   // of interfaces
}

func undocumented(files []*ast.File) (ids []*ast.Ident) {
	about := told{types: map[string]string{}, methods: map[string]bool{}}
	for _, f := range files {
		ast.Inspect(f, about.read)
	}
	for _, f := range files {
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && !about.method(d) {
					ids = append(ids, d.Name)
				}
			case *ast.GenDecl:
				ids = append(ids, undocumentedIn(d)...)
			}
		}
	}
	return ids
}

func (a told) read(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GenDecl:
		for _, s := range n.Specs {
			if t, ok := s.(*ast.TypeSpec); ok {
				a.types[t.Name.Name] = n.Doc.Text() + t.Doc.Text()
			}
		}
	case *ast.InterfaceType:
		for _, m := range n.Methods.List {
			for _, id := range m.Names {
				a.methods[id.Name] = true
			}
		}
	}
	return true
}

// method answers whether a function is a method that needs no comment of its own.
func (a told) method(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return false
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	switch generic := t.(type) {
	case *ast.IndexExpr:
		t = generic.X
	case *ast.IndexListExpr:
		t = generic.X
	}
	of, name := nameOf(t), d.Name.Name
	return !ast.IsExported(of) || a.methods[name] || slices.Contains(wellKnown, name) || mentions(a.types[of], name)
}

func mentions(comment, name string) bool {
	return slices.Contains(strings.FieldsFunc(comment, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), name)
}

// undocumentedIn: the comment of a group speaks for the constants and variables in it, and for the types that it names.
func undocumentedIn(d *ast.GenDecl) (ids []*ast.Ident) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			group := d.Doc != nil && (!d.Lparen.IsValid() || mentions(d.Doc.Text(), s.Name.Name))
			if s.Name.IsExported() && s.Doc == nil && s.Comment == nil && !group {
				ids = append(ids, s.Name)
			}
		case *ast.ValueSpec:
			for _, id := range s.Names {
				if id.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
					ids = append(ids, id)
				}
			}
		}
	}
	return ids
}
