package config

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// parse answers the one document of a file, or nil when it has faults that keep it from being read.
func (l *loader) parse(data []byte) *yaml.Node {
	switch {
	case len(data) > maxBytes:
		l.faultAt(1, 1, "the file is larger than 1MiB")
		return nil
	case !utf8.Valid(data):
		line, column := invalidAt(data)
		l.faultAt(line, column, "the file is not valid UTF-8")
		return nil
	}
	reader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		l.syntax(data, err)
		return nil
	}
	var first, second yaml.Node
	if err := reader.Load(&first); err != nil && !errors.Is(err, io.EOF) {
		l.syntax(data, err)
		return nil
	}
	if err := reader.Load(&second); err == nil {
		l.faultAt(second.Line, second.Column, "a second document begins here: write one configuration a file")
	} else if !errors.Is(err, io.EOF) {
		l.syntax(data, err)
	}
	root := &first
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	if root.Kind == 0 || root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		l.faultAt(1, 1, "%s", l.empty())
		return nil
	}
	if root.Kind != yaml.MappingNode {
		l.faultAt(root.Line, root.Column, "expected a map of settings and components, found %s", shape(root))
		return nil
	}
	return root
}

func (l *loader) empty() string {
	if l.sealed {
		return "the text is empty: remove the key to have the policies of each sidecar's own file"
	}
	return "the file is empty: write at least app: {id: NAME}"
}

func invalidAt(data []byte) (line, column int) {
	line, column = 1, 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1:
			return line, column
		case r == '\n':
			line, column = line+1, 1
		default:
			column++
		}
		data = data[size:]
	}
	return line, column
}

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
