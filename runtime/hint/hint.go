// Package hint tells those who made a slip what they may have meant.
package hint

import (
	"fmt"
	"slices"
	"strings"
)

// For answers a hint for a name that is not among those known: the one that was likely meant, or all of them when they are few.
func For(name string, known []string) string {
	known = slices.DeleteFunc(slices.Clone(known), func(s string) bool { return s == "" })
	best := Nearest(name, known)
	switch {
	case best != "":
		return fmt.Sprintf(" (did you mean %q?)", best)
	case len(known) == 0:
		return " (there are none)"
	case len(known) <= 32: // as many sections as there may be, and a line that can still be read
		return " (have " + strings.Join(known, ", ") + ")"
	}
	return ""
}

// Path is the one of the paths that was likely meant by another: written without what stands before, or with a slip; empty if none is.
func Path(path string, known []string) string {
	end := strings.ToLower("/" + strings.TrimPrefix(path, "/"))
	for _, k := range slices.Sorted(slices.Values(known)) {
		if low := strings.ToLower("/" + strings.TrimPrefix(k, "/")); low == end || strings.HasSuffix(low, "."+end[1:]) && strings.Contains(end[1:], "/") {
			return k
		}
	}
	return Nearest(path, known)
}

// Nearest is the one of known that name is a slip of, or empty.
func Nearest(name string, known []string) (best string) {
	distance := 3
	for _, k := range known {
		if d := edits(name, k); d < distance && d*2 <= len(k) {
			best, distance = k, d
		}
	}
	return best
}

// edits counts the letters to insert, drop, change or swap with their neighbour that turn a into b.
func edits(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return 3 // more than anyone asks for, and a long name costs nothing
	}
	above, row := make([]int, len(b)+1), make([]int, len(b)+1)
	before := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
