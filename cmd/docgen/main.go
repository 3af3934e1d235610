// Docgen writes docs/components from the code: a page for each capability, made of package comments, options with their
// defaults, and what each driver guarantees; and the table in docs/mesh.md of what tests say that they show of which protocol.
//
//	docgen [-root DIR] [-check]
//
// With -check it writes nothing and exits with 1 if a page is not what it would write.
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
	flag.Parse()
	if err := errors.Join(run(*root, components.Catalogs(), *check), features(*root, *check)); err != nil {
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
