package mesh

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

const (
	mostAttempts = 10
	mostWeight   = 1_000_000
)

// Check tells each thing that is wrong: where, as the path of a setting such as routes.0.split.1.weight, and what, as the end of a sentence that
// begins with the setting's value. hint, if there is one, are the values that are known.
func (p *Policies) Check(wrong func(path string, value any, what string, hint []string)) {
	c := checker(wrong)
	c.rule("defaults", &p.Defaults)
	if p.Defaults.Retry.Attempts < 1 {
		c.no("defaults.retry.attempts", p.Defaults.Retry.Attempts, "is less than 1")
	}
	if p.Defaults.Outlier.Failures < 1 {
		c.no("defaults.outlier.failures", p.Defaults.Outlier.Failures, "is less than 1")
	}
	if p.Defaults.Balance == "" {
		c.no("defaults.balance", "", "is not a way of choosing an instance: write least_request or round_robin")
	}
	names := map[string]bool{}
	for i := range p.Routes {
		r, path := &p.Routes[i], fmt.Sprintf("routes.%d", i)
		c.route(path, r)
		if r.Name != "" && names[r.Name] {
			c.no(path+".name", r.Name, "is the name of another route already")
		}
		names[r.Name] = true
	}
	for i := range p.Migration {
		c.migration(fmt.Sprintf("migration.%d", i), &p.Migration[i])
	}
}

type checker func(path string, value any, what string, hint []string)

func (c checker) no(path string, value any, what string) { c(path, value, what, nil) }

func (c checker) route(path string, r *Route) {
	c.service(path, r.Service)
	c.headers(path+".match.headers", r.Match.Headers)
	c.source(path+".match.source", r.Match.Source)
	if strings.Contains(strings.TrimSuffix(r.Match.Method, "*"), "*") {
		c.no(path+".match.method", r.Match.Method, "has a * that is not its end")
	}
	total := 0
	for i := range r.Split {
		s, at := &r.Split[i], fmt.Sprintf("%s.split.%d", path, i)
		switch {
		case s.Weight < 0:
			c.no(at+".weight", s.Weight, "is negative")
		case s.Weight > mostWeight:
			c.no(at+".weight", s.Weight, fmt.Sprintf("is more than %d", mostWeight))
		}
		total += max(s.Weight, 0)
	}
	if len(r.Split) > 0 && total == 0 {
		c.no(path+".split", "", "gives no share any weight: no call could go anywhere")
	}
	if r.Sticky != "" && len(r.Split) == 0 {
		c.no(path+".sticky", r.Sticky, "keeps calls to a share of a split, and there is no split")
	}
	c.header(path+".sticky", r.Sticky)
	c.rule(path, &r.Rule)
}

func (c checker) migration(path string, m *Migration) {
	c.service(path, m.Service)
	c.headers(path+".headers", m.Headers)
	c.source(path+".source", m.Source)
	c.header(path+".sticky", m.Sticky)
	for i, address := range m.Instances {
		if !strings.Contains(address, ":") {
			c.no(fmt.Sprintf("%s.instances.%d", path, i), address, "is not an address: write HOST:PORT")
		}
	}
}

func (c checker) rule(path string, r *Rule) {
	for i, on := range r.Retry.On {
		if !knownFailure(on) {
			c(fmt.Sprintf("%s.retry.on.%d", path, i), on, "is not a failure", failures())
		}
	}
	if r.Retry.Attempts > mostAttempts {
		c.no(path+".retry.attempts", r.Retry.Attempts, fmt.Sprintf("is more than %d", mostAttempts))
	}
	if r.Timeout > 0 && r.Retry.PerTry > r.Timeout {
		c.no(path+".retry.per_try", r.Retry.PerTry, "is longer than the timeout of the whole call")
	}
	if r.Outlier.MaxEject > 0 && r.Outlier.Eject > r.Outlier.MaxEject {
		c.no(path+".outlier.eject", r.Outlier.Eject, "is longer than max_eject")
	}
	for _, one := range [...]struct {
		name string
		n    int
	}{{"retry.attempts", r.Retry.Attempts}, {"breaker.service", r.Breaker.Service}, {"breaker.instance", r.Breaker.Instance},
		{"outlier.failures", r.Outlier.Failures}} {
		if one.n < 0 {
			c.no(path+"."+one.name, one.n, "is negative")
		}
	}
}

func (c checker) service(path, name string) {
	namespace, rest, both := strings.Cut(name, "/")
	if !both {
		rest, namespace = name, "any"
	}
	switch {
	case name == "":
		c.no(path, "", "says not which service it is for: write service: NAME")
	case rest == "" || namespace == "" || strings.Contains(rest, "/") || strings.ContainsFunc(name, unicode.IsSpace):
		c.no(path+".service", name, "is not a service: write NAME or NAMESPACE/NAME")
	case strings.Contains(name, "*") && name != "*":
		c.no(path+".service", name, "is not a service: * stands alone, for each service")
	}
}

func (c checker) source(path, text string) {
	if text == "" {
		return
	}
	if namespace, app, both := strings.Cut(text, "/"); both && (namespace == "" || app == "" || strings.Contains(app, "/")) {
		c.no(path, text, "is not an application: write APP or NAMESPACE/APP")
	}
}

func (c checker) headers(path string, all map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch {
		case !isHeader(name):
			c.no(path, "", fmt.Sprintf("has %q, which is not the name of a header: lower case letters, digits, - and the like", name))
		case all[name] == "":
			c.no(path+"."+name, "", "gives no value: write one, or * for any")
		}
	}
}

func (c checker) header(path, name string) {
	if name != "" && !isHeader(name) {
		c.no(path, name, "is not the name of a header: lower case letters, digits, - and the like")
	}
}

// isHeader tells whether a text is a token of RFC 9110, section 5.6.2, in lower case.
func isHeader(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r) || 'A' <= r && r <= 'Z'
	})
}

// failures are the names that retry.on takes besides a protocol's own.
func failures() []string {
	all := []string{fiveXX}
	for name := range kinds {
		all = append(all, name)
	}
	for name := range grpcCodes {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
