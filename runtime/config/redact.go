package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// redact replaces what came from references in a text that others wrote, also where it is written another way, as 60s is
// when it is a minute.
func (o *optionsOf) redact(text string, secrets map[secretRef]string) string {
	decoded := map[string]string{}
	visit(reflect.ValueOf(o.value), func(path []string, _ field, v reflect.Value) {
		decoded[strings.Join(path, ".")] = fmt.Sprint(v.Interface())
	})
	o.references(func(t *template) {
		path := strings.Join(o.tree.path(t.at)[3:], ".") // below CAPABILITY.NAME.options
		for _, value := range append(t.values(secrets), t.render(secrets), decoded[path]) {
			text = hide(text, value, t.raw)
		}
	})
	return text
}

// values are those of a template's references.
func (t *template) values(secrets map[secretRef]string) []string {
	var all []string
	for _, p := range t.parts {
		if p.referred {
			all = append(all, p.text)
		} else if p.secret != nil && secrets[*p.secret] != "" {
			all = append(all, secrets[*p.secret])
		}
	}
	return all
}

// hide replaces a value by what stands for it, as it is and as %q writes it. A short one is replaced only where it is
// a word of its own: it would take the letters out of the sentence otherwise.
func hide(text, value, by string) string {
	quoted := strconv.Quote(value)
	for _, v := range []string{value, quoted[1 : len(quoted)-1]} {
		switch {
		case v == "":
		case len(v) >= 4:
			text = strings.ReplaceAll(text, v, by)
		default:
			word := regexp.MustCompile(`(^|[\s:,("'])` + regexp.QuoteMeta(v) + `($|[\s:,)"'])`)
			text = word.ReplaceAllString(text, "${1}"+strings.ReplaceAll(by, "$", "$$")+"${2}")
		}
	}
	return text
}
