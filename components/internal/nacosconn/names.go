package nacosconn

import (
	"fmt"
	"strings"
)

const hexDigits = "0123456789ABCDEF"

// Escape writes each byte of s that is not plain as mark and two hexadecimal digits.
func Escape(s, mark string, plain func(byte) bool) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		if plain(c) {
			out.WriteByte(c)
			continue
		}
		out.WriteString(mark)
		out.Write([]byte{hexDigits[c>>4], hexDigits[c&15]})
	}
	return out.String()
}

// IsWord tells whether Nacos takes a byte in all names.
func IsWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-'
}

// Namespace answers the id of the Nacos namespace that an application's namespace is kept in: the one that it is given in names, else
// one of the same name. Names that Nacos does not take are escaped.
func Namespace(names map[string]string, namespace string) string {
	if id, ok := names[namespace]; ok {
		return id
	}
	return Escape(namespace, "_", IsWord)
}

// CheckNamespaces refuses ids that Nacos does not take, and two namespaces in one.
func CheckNamespaces(names map[string]string) error {
	taken := map[string]string{}
	for name, id := range names {
		if id == "" || len(id) > 64 || strings.ContainsFunc(id, func(r rune) bool { return r > 127 || !IsWord(byte(r)) && r != '_' }) {
			return fmt.Errorf("namespaces: %s: %q is no id of a Nacos namespace; that of the public one is public", name, id)
		}
		if other, ok := taken[id]; ok {
			return fmt.Errorf("namespaces: %s and %s are both kept in %s", min(name, other), max(name, other), id)
		}
		taken[id] = name
	}
	return nil
}
