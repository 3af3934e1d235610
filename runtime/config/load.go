package config

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

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
	l := &loader{source: &source{file: path, flags: map[string]string{}}, env: env.orProcess(), catalogs: map[string]components.Catalog{}}
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
	*source
	env      Environment
	catalogs map[string]components.Catalog
	faults   Faults
	sealed   bool // the text comes from elsewhere: nothing of this machine is read for it
}

func (l *loader) load(data []byte, flags Overrides) *Config {
	c := Defaults()
	if doc := l.parse(data); doc != nil {
		g := grower{loader: l}
		if root := g.grow(doc, -1, ""); !g.full {
			l.tree.root = root
		}
	}
	if l.tree.root != nil {
		settings, sections := l.split(l.tree.root)
		l.noSecrets(settings, "")
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
	c.source, c.digest = l.source, sha256.Sum256(data)
	return &c
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

// maxFaults keeps a hostile file from making us write a book.
const maxFaults = 200

func (l *loader) note(f Fault) {
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, f)
	}
}

// fault notes what is wrong at a place of the tree.
func (l *loader) fault(at int, format string, args ...any) {
	l.tree.places[at].faulty = true
	l.note(l.source.fault(at, fmt.Sprintf(format, args...)))
}

// faultAt notes what is wrong at a position of the file.
func (l *loader) faultAt(line, column int, format string, args ...any) {
	l.note(Fault{File: l.file, Line: max(line, 1), Column: max(column, 1), Message: fmt.Sprintf(format, args...)})
}

// owner names a place as users do: the component, if it is in one, and the field: cache "sessions" and redis.addr.
func (l *loader) owner(at int) (component, field string) {
	path := l.tree.path(at)
	if len(path) > 1 && l.catalogs[path[0]] != nil {
		component, path = fmt.Sprintf("%s %q", path[0], clip(path[1])), path[2:]
		if len(path) > 1 && path[0] == "options" {
			path = path[1:]
		}
	}
	return component, clip(strings.Join(path, "."))
}

// subject is owner in one text.
func (l *loader) subject(at int) string {
	component, field := l.owner(at)
	if component == "" || field == "" {
		return component + field
	}
	return component + ": " + field
}
