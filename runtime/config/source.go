package config

import (
	"fmt"
	"strings"
)

// source knows where each setting came from. A Config keeps it, so that a reload can say where what it refuses is written.
type source struct {
	file  string
	tree  tree
	flags map[string]string // path of a setting -> the flag that gave it
}

// place makes a fault of a place of the tree.
func (s *source) fault(at int, message string) Fault {
	p := s.tree.places[at]
	return Fault{File: s.file, Line: max(p.line, 1), Column: max(p.column, 1), Message: message}
}

// Fault says what is wrong with a setting of a loaded configuration, at its place in the file, or at the flag that gave it.
func (c *Config) Fault(setting string, err error) error {
	return Faults{c.source.settingFault(setting, err.Error())}
}

// settingFault makes a fault of a setting: at its value, or at the innermost section around it that is written.
func (s *source) settingFault(path, message string) Fault {
	message = path + ": " + message
	if flag := s.flags[path]; flag != "" {
		return Fault{File: "flag " + flag, Message: message}
	}
	names := strings.Split(path, ".")
	for i := len(names); i > 0 && s.tree.root != nil; i-- {
		key, value := find(s.tree.root, names[:i]...)
		switch {
		case value == nil:
			continue
		case i < len(names) && key != nil:
			return s.fault(key.Line, message)
		}
		return s.fault(value.Line, message)
	}
	return Fault{File: s.file, Line: 1, Column: 1, Message: message}
}

// written tells whether a setting is in the file or comes from a flag.
func (s *source) written(path string) bool {
	_, value := find(s.tree.root, strings.Split(path, ".")...)
	return value != nil || s.flags[path] != ""
}

// spelt is a value as it is written in the file: one that comes from a reference is that reference.
func (s *source) spelt(at int) string {
	p := s.tree.places[at]
	if p.ref.refers() {
		return p.ref.raw
	}
	return p.node.Value
}

// shown is a value as faults may show it.
func (s *source) shown(at int) string { return fmt.Sprintf("%q", clip(s.spelt(at))) }

// clip makes a text of the file fit for a message of one line.
func clip(s string) string {
	r := []rune(s)
	if len(r) > 80 {
		r = append(r[:77], '.', '.', '.')
	}
	for i, c := range r {
		if c < ' ' || c == 0x7f {
			r[i] = ' '
		}
	}
	return string(r)
}
