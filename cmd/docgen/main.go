// Docgen writes docs/components from the code: a page for each capability, made of package comments, options with their
// defaults, and what each driver guarantees; and the table in docs/mesh.md of what tests say that they show of which protocol.
//
//	docgen [-root DIR] [-check] [-results FILE,...]
//
// With -check it writes nothing and exits with 1 if a page is not what it would write. With -results the table is made of what tests have said
// that have passed, as integration/suite writes it down; without, of what the sources of tests would say.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/outrigger-mesh/outrigger/components"
	_ "github.com/outrigger-mesh/outrigger/components/all"
)

func main() {
	root := flag.String("root", ".", "the repository")
	check := flag.Bool("check", false, "only tell which pages are not current")
	results := flag.String("results", "", "what tests that passed have said, files with commas between")
	flag.Parse()
	if err := errors.Join(run(*root, components.Catalogs(), *check), features(*root, *results, *check)); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

func run(root string, catalogs []components.Catalog, check bool) error {
	pages, err := render(filepath.Join(root, "components"), catalogs)
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "docs", "components")
	if check {
		return pages.compare(dir)
	}
	return pages.write(dir)
}
