package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
)

// mark begins each page, and tells it from those written by hand.
const mark = "<!-- Written by cmd/docgen from the code. -->\n"

// render makes all pages, by file name.
func render(sources string, catalogs []components.Catalog) (pages, error) {
	all := pages{}
	var index strings.Builder
	index.WriteString(mark + "\n# Components\n\nA component is a configured, named instance of a driver; applications use it by its name. These drivers are in the standard build.\n\n" +
		"| capability | what it does | drivers |\n|---|---|---|\n")
	for _, c := range catalogs {
		about, err := packageComment(filepath.Join(sources, c.Capability()))
		if err != nil {
			return nil, err
		}
		page, err := capabilityPage(sources, c, about)
		if err != nil {
			return nil, err
		}
		name := c.Capability() + ".md"
		all[name] = page
		fmt.Fprintf(&index, "| [%s](%s) | %s | %s |\n", c.Capability(), name,
			cell(new(doc.Package).Synopsis(about)), strings.Join(c.Drivers(), ", "))
	}
	all["README.md"] = []byte(index.String())
	return all, nil
}

func capabilityPage(sources string, c components.Catalog, about string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n# %s\n\n%s", mark, c.Capability(), markdown(forUsers(about)))
	for _, driver := range c.Drivers() {
		about, err := packageComment(filepath.Join(sources, c.Capability(), driver))
		if err != nil {
			return nil, err
		}
		defaults, _ := c.Defaults(driver)
		fmt.Fprintf(&b, "\n## Driver %s\n\n%s\n", driver, markdown(about))
		example(&b, c.Capability(), driver, components.Options(defaults))
		table(&b, components.Options(defaults))
		if d, ok := defaults.(components.Describer); ok {
			fmt.Fprintf(&b, "\nGuarantees:\n\n%s\n", strings.TrimSpace(d.Guarantees()))
		}
	}
	return b.Bytes(), nil
}

// example is a configuration with the options that have a default.
func example(b *bytes.Buffer, capability, driver string, options []components.Option) {
	fmt.Fprintf(b, "```yaml\n%s:\n  default:\n    driver: %s\n", capability, driver)
	above := []string{}
	for _, o := range options {
		text, ok := inYAML(o)
		if !ok {
			continue
		}
		path := append([]string{"options"}, strings.Split(o.Name, ".")...)
		for depth, name := range path[:len(path)-1] {
			if depth >= len(above) || above[depth] != name {
				fmt.Fprintf(b, "%*s%s:\n", 4+2*depth, "", name)
				above = append(above[:depth:depth], name)
			}
		}
		above = above[:len(path)-1]
		fmt.Fprintf(b, "%*s%s: %s\n", 2+2*len(path), "", path[len(path)-1], text)
	}
	b.WriteString("```\n")
}

// inYAML is an option's default as one writes it; maps and what has no default are left out.
func inYAML(o components.Option) (text string, ok bool) {
	switch {
	case o.Type == "[]string": // such as addresses, which have no spaces
		items := strings.Fields(strings.Trim(o.Default, "[]"))
		for i := range items {
			items[i] = strconv.Quote(items[i])
		}
		return "[" + strings.Join(items, ", ") + "]", len(items) > 0
	case o.Default == "", o.Type == "secret", strings.HasPrefix(o.Type, "[]"), strings.HasPrefix(o.Type, "map["):
		return "", false
	case o.Type == "string":
		return strconv.Quote(o.Default), true
	}
	return o.Default, true
}

func table(b *bytes.Buffer, options []components.Option) {
	if len(options) == 0 {
		b.WriteString("\nThere are no options.\n")
		return
	}
	b.WriteString("\n| option | type | default | what it is |\n|---|---|---|---|\n")
	for _, o := range options {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", o.Name, cell(o.Type), value(o), cell(o.What))
	}
}

func value(o components.Option) string {
	if o.Default == "" || o.Type == "secret" {
		return ""
	}
	return "`" + cell(o.Default) + "`"
}

// cell is text that ends no cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// forUsers is what stands above the first heading: below are notes for those who write drivers.
func forUsers(about string) string {
	above, _, _ := strings.Cut(about, "\n# ")
	return above
}

// packageComment reads the comment of the package in a folder, without "Package NAME", which says nothing to a user.
func packageComment(dir string) (string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return "", err
		}
		if text := commentOf(file); text != "" {
			return text, nil
		}
	}
	return "", fmt.Errorf("no package comment in %s", dir)
}

func commentOf(file *ast.File) string {
	text := file.Doc.Text()
	rest, ok := strings.CutPrefix(text, "Package "+file.Name.Name+" ")
	if !ok {
		return text
	}
	return strings.ToUpper(rest[:1]) + rest[1:]
}

func markdown(text string) string {
	d := new(doc.Package).Parser().Parse(text)
	p := comment.Printer{HeadingLevel: 3, HeadingID: func(*comment.Heading) string { return "" }, DocLinkURL: func(*comment.DocLink) string { return "" }}
	return string(p.Markdown(d))
}

// pages are the contents by file name.
type pages map[string][]byte

func (p pages) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	gone, err := p.gone(dir)
	if err != nil {
		return err
	}
	for _, name := range gone {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for name, page := range p {
		if err := os.WriteFile(filepath.Join(dir, name), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}
