package config

import (
	"bytes"
	"errors"
	"strings"

	"go.yaml.in/yaml/v4"
)

// syntax notes why a file is not YAML.
func (l *loader) syntax(data []byte, err error) {
	var one *yaml.LoadError
	if many := (*yaml.LoadErrors)(nil); errors.As(err, &many) && len(many.Errors) > 0 {
		one = many.Errors[0]
	} else if !errors.As(err, &one) {
		l.faultAt(1, 1, "not YAML: %s", clip(err.Error()))
		return
	}
	line, column := one.Mark.Line, one.Mark.Column
	if tab := tabBefore(data, line); tab > 0 {
		l.faultAt(line, tab, "a tab cannot indent: use spaces")
		return
	}
	message := one.Message
	if one.ContextMsg != "" {
		message = one.ContextMsg + ": " + message
	}
	l.faultAt(line, column, "not YAML: %s", clip(message))
}

// tabBefore answers the column of a tab in the indentation of a line, or 0.
func tabBefore(data []byte, line int) int {
	lines := bytes.Split(data, []byte("\n"))
	if line < 1 || line > len(lines) {
		return 0
	}
	text := string(lines[line-1])
	indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	return strings.IndexByte(indent, '\t') + 1
}
