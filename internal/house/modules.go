package house

import (
	"fmt"
	"regexp"
	"strconv"
)

// maxCEL is the last version of cel-go whose API MOSN builds with.
const maxCEL = "v0.5.1"

var celVersion = regexp.MustCompile(`github\.com/google/cel-go (v[0-9]+\.[0-9]+\.[0-9]+)`)

// CELFaults finds later versions in go.mod or go.sum, by which one dependency would break another.
func CELFaults(name, text string) (faults []string) {
	for _, m := range celVersion.FindAllStringSubmatch(text, -1) {
		if later(m[1], maxCEL) {
			faults = append(faults, fmt.Sprintf("%s: cel-go %s, MOSN does not build with a later one than %s", name, m[1], maxCEL))
		}
	}
	return faults
}

var numbers = regexp.MustCompile(`[0-9]+`)

// later compares release versions.
func later(a, b string) bool {
	x, y := numbers.FindAllString(a, 3), numbers.FindAllString(b, 3)
	for i := range x {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m > n
		}
	}
	return false
}
