// Package page reads the pages under docs for tests that do what those say, with what those say: a page's own configurations and settings are
// what the tests start applications and sidecars with.
package page

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// Block is one fenced block.
type Block struct {
	Language string // as it is marked
	Text     string
	Line     int    // of its fence
	Heading  string // that it stands under
}

var (
	fence   = regexp.MustCompile("^ *(```+|~~~+) *([^ ]*)")
	heading = regexp.MustCompile("^#+ +(.*)")
)

// Blocks are those of a page's text, in order.
func Blocks(text string) (all []Block) {
	var open *Block
	under := ""
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open == nil && m != nil:
			open = &Block{Language: m[2], Line: i + 1, Heading: under}
		case open != nil && m != nil:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.Text += line + "\n"
		default:
			if h := heading.FindStringSubmatch(line); h != nil {
				under = h[1]
			}
		}
	}
	return all
}

// Page is one page that a test follows.
type Page struct {
	t    testing.TB
	name string
	text string
	left []Block
}

// Open reads a page, by its path from the top of the tree. At its end the test fails if a block of one of the languages has not been taken.
func Open(t testing.TB, name string, languages ...string) *Page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(), name))
	if err != nil {
		t.Fatal(err)
	}
	p := &Page{t: t, name: name, text: string(text)}
	for _, b := range Blocks(p.text) {
		for _, l := range languages {
			if b.Language == l {
				p.left = append(p.left, b)
			}
		}
	}
	t.Cleanup(func() {
		for _, b := range p.left {
			if !t.Failed() {
				t.Errorf("%s:%d: nobody has tried this block", p.name, b.Line)
			}
		}
	})
	return p
}

// Take is the next block of the language under the heading. Pairs are what stands in it and what stands for that here, as the address that a
// server happens to have; the test fails if it does not stand there.
func (p *Page) Take(under, language string, pairs ...string) string {
	p.t.Helper()
	for i, b := range p.left {
		if b.Heading != under || b.Language != language {
			continue
		}
		p.left = append(p.left[:i:i], p.left[i+1:]...)
		for j := 0; j+1 < len(pairs); j += 2 {
			if !strings.Contains(b.Text, pairs[j]) {
				p.t.Fatalf("%s:%d: no %q in this block", p.name, b.Line, pairs[j])
			}
			b.Text = strings.ReplaceAll(b.Text, pairs[j], pairs[j+1])
		}
		return b.Text
	}
	p.t.Fatalf("%s: no block of %s is left under %q", p.name, language, under)
	return ""
}

// Says is the text, which must stand on the page.
func (p *Page) Says(text string) string {
	p.t.Helper()
	if !strings.Contains(p.text, text) {
		p.t.Fatalf("%s does not say %q", p.name, text)
	}
	return text
}

// Leave has all blocks under a heading left alone: another test takes them.
func (p *Page) Leave(heading string) {
	p.left = slices.DeleteFunc(p.left, func(b Block) bool { return b.Heading == heading })
}

// Setting is one line of a block of properties, KEY=VALUE.
type Setting struct{ Key, Value string }

func (s Setting) String() string { return s.Key + "=" + s.Value }

// Settings takes the next block of properties under the heading.
func (p *Page) Settings(under string, pairs ...string) (all []Setting) {
	p.t.Helper()
	for line := range strings.Lines(p.Take(under, "properties", pairs...)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			p.t.Fatalf("%s: %q is no setting", p.name, line)
		}
		all = append(all, Setting{key, value})
	}
	return all
}

// Setting takes the next block of properties under the heading, which has one line.
func (p *Page) Setting(under string, pairs ...string) Setting {
	p.t.Helper()
	all := p.Settings(under, pairs...)
	if len(all) != 1 {
		p.t.Fatalf("%s: %d settings under %q, want one", p.name, len(all), under)
	}
	return all[0]
}
