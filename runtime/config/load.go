package config

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	"github.com/outrigger-mesh/outrigger/components"
)

//go:embed defaults.yaml
var embedded []byte

// embeddedName stands where faults name a file.
const embeddedName = "embedded defaults"

// Environment is what a configuration refers to outside of its file. Each field that is nil is that of the process.
type Environment struct {
	LookupEnv func(name string) (value string, set bool)
	ReadFile  func(path string) ([]byte, error)
	Catalogs  []components.Catalog // the capabilities there are; nil: components.Catalogs()
}

func (e Environment) orProcess() Environment {
	if e.LookupEnv == nil {
		e.LookupEnv = os.LookupEnv
	}
	if e.ReadFile == nil {
		e.ReadFile = readFile
	}
	if e.Catalogs == nil {
		e.Catalogs = components.Catalogs()
	}
	return e
}

// readFile reads no more than can be used, since a path may lead to a device.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxBytes+1))
}

// Load reads the file at path; an empty path stands for the embedded defaults, which give each capability a component called
// default. Its error is Faults with everything that is wrong. Nothing is opened but the files that are referred to.
func Load(path string, flags Overrides, env Environment) (*Config, error) {
	l := &loader{file: path, env: env.orProcess(), catalogs: map[string]components.Catalog{}}
	for _, c := range l.env.Catalogs {
		l.catalogs[c.Capability()] = c
	}
	data := embedded
	if path == "" {
		l.file = embeddedName
	} else {
		var err error
		if data, err = l.env.ReadFile(path); err != nil {
			return nil, Faults{{File: path, Message: "cannot read the configuration: " + reason(err)}}
		}
	}
	c := l.load(data, flags)
	c.SourcePath = path
	if err := l.faults.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// loader is one reading of one file.
type loader struct {
	file     string
	env      Environment
	catalogs map[string]components.Catalog
	tree     tree
	faults   Faults
	flags    map[string]string // path of a setting -> the flag that gave it
}

func (l *loader) load(data []byte, flags Overrides) *Config {
	c := Defaults()
	l.flags = map[string]string{}
	if doc := l.parse(data); doc != nil {
		g := grower{loader: l}
		l.tree.root = g.grow(doc, -1, "")
	}
	if l.tree.root != nil {
		settings, sections := l.split(l.tree.root)
		l.decode(settings, &c)
		for _, s := range sections {
			c.Components = append(c.Components, l.section(s)...)
		}
	}
	if l.file == embeddedName && slices.ContainsFunc(c.Components, func(c Component) bool { return c.Capability == registryCapability }) {
		c.Mesh.Registry = "default"
	}
	flags.apply(&c, l.flags)
	l.finish(&c)
	c.digest = digest(data)
	c.tree, c.flags, c.file = &l.tree, l.flags, l.file
	return &c
}

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
		l.faultAt(1, 1, "the file is empty: write at least app: {id: NAME}")
		return nil
	}
	if root.Kind != yaml.MappingNode {
		l.faultAt(root.Line, root.Column, "expected a map of settings and components, found %s", shape(root))
		return nil
	}
	return root
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

// split parts the sections that hold components from the settings.
func (l *loader) split(root *yaml.Node) (settings *yaml.Node, sections [][2]*yaml.Node) {
	rest := *root
	rest.Content = nil
	for k, v := range pairs(root) {
		_, is := l.catalogs[k.Value]
		switch {
		case is:
			sections = append(sections, [2]*yaml.Node{k, v})
		case l.file == embeddedName && !isSetting(k.Value): // a capability that this build does not have
		default:
			rest.Content = append(rest.Content, k, v)
		}
	}
	return &rest, sections
}

// fault notes what is wrong at a place of the tree.
func (l *loader) fault(at int, format string, args ...any) {
	p := l.tree.places[at]
	l.faultAt(p.line, p.column, format, args...)
}

// maxFaults keeps a hostile file from making us write a book.
const maxFaults = 200

func (l *loader) faultAt(line, column int, format string, args ...any) {
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, Fault{File: l.file, Line: max(line, 1), Column: max(column, 1), Message: fmt.Sprintf(format, args...)})
	}
}

// subject names a place as users do: cache "sessions": redis.addr, or mesh.registry.
func (l *loader) subject(at int) string {
	path := l.tree.path(at)
	prefix := ""
	if len(path) > 1 && l.catalogs[path[0]] != nil {
		prefix, path = fmt.Sprintf("%s %q", path[0], clip(path[1])), path[2:]
		if len(path) > 1 && path[0] == "options" {
			path = path[1:]
		}
		if len(path) == 0 {
			return prefix
		}
		prefix += ": "
	}
	return prefix + clip(strings.Join(path, "."))
}

// clip keeps a text of the file short enough for a message of one line.
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
