package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// template is a value as it is written: texts with references between them.
type template struct {
	at    int // its place
	raw   string
	parts []part
}

// part is a text, or a secret whose value is known later.
type part struct {
	text     string     // of the file, or what a reference answered
	referred bool       // text comes from a reference and is told to nobody
	secret   *secretRef // nil: a text
}

// secretRef is ${secret:component/key}.
type secretRef struct{ component, key string }

var environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// refer replaces the references of a value. Secrets stay as they are written until the component is resolved.
func (l *loader) refer(n *yaml.Node) {
	t := &template{at: n.Line, raw: n.Value}
	for rest := n.Value; rest != ""; {
		i := strings.IndexByte(rest, '$')
		switch {
		case i < 0:
			t.add(rest)
			rest = ""
		case strings.HasPrefix(rest[i:], "$${"):
			t.add(rest[:i] + "${")
			rest = rest[i+3:]
		case strings.HasPrefix(rest[i:], "${"):
			t.add(rest[:i])
			body, after, closed := strings.Cut(rest[i+2:], "}")
			if !closed {
				l.fault(n.Line, "%s: a reference is not closed: write ${env:NAME}, or $${ for the two characters ${", l.subject(n.Line))
			} else if p, ok := l.follow(n.Line, body); ok {
				t.parts = append(t.parts, p)
			}
			rest = after
		default:
			t.add(rest[:i+1])
			rest = rest[i+1:]
		}
	}
	l.tree.places[n.Line].ref = t
	n.Value = t.render(nil)
	if t.refers() {
		n.Tag, n.Style = "!!str", yaml.DoubleQuotedStyle
	}
}

func (t *template) add(text string) {
	if text != "" {
		t.parts = append(t.parts, part{text: text})
	}
}

// refers tells a value with references from one that only has escapes, or none at all.
func (t *template) refers() bool {
	return t != nil && slices.ContainsFunc(t.parts, func(p part) bool { return p.referred || p.secret != nil })
}

// hasSecret tells a value that is not known yet.
func (t *template) hasSecret() bool {
	return t != nil && slices.ContainsFunc(t.parts, func(p part) bool { return p.secret != nil })
}

// follow reads the inside of ${...}.
func (l *loader) follow(at int, body string) (part, bool) {
	if l.sealed {
		l.fault(at, "%s: ${%s}: references are not followed here: each sidecar that reads this would find something else", l.subject(at), clip(body))
		return part{}, false
	}
	kind, name, _ := strings.Cut(body, ":")
	switch kind {
	case "env":
		return l.followEnvironment(at, name)
	case "file":
		return l.followFile(at, name)
	case "secret":
		component, key, ok := strings.Cut(name, "/")
		if !ok || component == "" || key == "" {
			l.fault(at, "%s: ${%s}: write ${secret:COMPONENT/KEY}", l.subject(at), clip(body))
			return part{}, false
		}
		return part{secret: &secretRef{component, key}}, true
	}
	l.fault(at, "%s: unknown reference ${%s}: write ${env:NAME}, ${file:PATH} or ${secret:COMPONENT/KEY}, or $${ for the two characters ${", l.subject(at), clip(body))
	return part{}, false
}

func (l *loader) followEnvironment(at int, name string) (part, bool) {
	if !environmentName.MatchString(name) {
		l.fault(at, "%s: %q is not the name of an environment variable", l.subject(at), clip(name))
		return part{}, false
	}
	value, set := l.env.LookupEnv(name)
	if !set {
		l.fault(at, "%s: environment variable %s is not set", l.subject(at), name)
		return part{}, false
	}
	return l.referred(at, value)
}

func (l *loader) followFile(at int, name string) (part, bool) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(l.file), path)
	}
	if name == "" {
		l.fault(at, "%s: ${file:}: write ${file:PATH}", l.subject(at))
		return part{}, false
	}
	data, err := l.env.ReadFile(path)
	if err != nil {
		l.fault(at, "%s: cannot read the file %s: %s", l.subject(at), clip(path), reason(err))
		return part{}, false
	}
	return l.referred(at, strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"))
}

func (l *loader) referred(at int, value string) (part, bool) {
	if len(value) > maxBytes || !utf8.ValidString(value) {
		l.fault(at, "%s: what the reference leads to is not a text of at most 1MiB", l.subject(at))
		return part{}, false
	}
	return part{text: value, referred: true}, true
}

// render puts the value together. Without secrets their references stand for them.
func (t *template) render(secrets map[secretRef]string) string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.secret == nil {
			b.WriteString(p.text)
		} else if value, known := secrets[*p.secret]; known {
			b.WriteString(value)
		} else {
			b.WriteString(p.secret.String())
		}
	}
	return b.String()
}

func (r secretRef) String() string { return "${secret:" + r.component + "/" + r.key + "}" }

// reason is why a file cannot be read, without its path.
func reason(err error) string {
	var of *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "no permission"
	case errors.As(err, &of):
		return of.Err.Error()
	}
	return err.Error()
}
