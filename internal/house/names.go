package house

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// nothings are names of packages that do not say what is in them.
var nothings = []string{"util", "utils", "common", "manager", "impl", "helper", "helpers", "misc", "base", "shared"}

// NameFaults finds packages with such a name. The messages that all of the API shares are the exception.
func NameFaults(all []Package) (faults []string) {
	for _, p := range all {
		if strings.HasSuffix(p.ImportPath, "/proto/outrigger/common/v1") {
			continue
		}
		if slices.Contains(nothings, p.Name) || slices.Contains(nothings, path.Base(p.ImportPath)) {
			faults = append(faults, p.ImportPath+": the name does not say what the package is for")
		}
	}
	return faults
}

// maxLines bounds a Go file. Most end near 100 lines.
const maxLines = 500

// SizeFaults finds Go files, other than generated ones, in which a second idea waits for its name.
func SizeFaults(files map[string]string) (faults []string) {
	for name, text := range files {
		if n := strings.Count(text, "\n"); n > maxLines && strings.HasSuffix(name, ".go") && !generated(text) {
			faults = append(faults, fmt.Sprintf("%s has %d lines, %d are allowed", name, n, maxLines))
		}
	}
	slices.Sort(faults)
	return faults
}

var promise = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

// PromiseFaults finds notes of work that is not done.
func PromiseFaults(files map[string]string) (faults []string) {
	for name, text := range files {
		if generated(text) {
			continue
		}
		n := 0
		for line := range strings.Lines(text) {
			if n++; promise.MatchString(line) {
				faults = append(faults, fmt.Sprintf("%s:%d: do it or leave it out: %s", name, n, strings.TrimSpace(line)))
			}
		}
	}
	slices.Sort(faults)
	return faults
}
