package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// unbounded are labels that would make a series of each request's own values.
var unbounded = []string{"key", "topic", "path", "url", "query", "method", "user", "user_id", "uid", "id", "gid", "trace_id",
	"token", "addr", "address", "peer"}

var metricName = regexp.MustCompile(`^outrigger(_[a-z][a-z0-9]*)+$`)

// Metric is a metric's declaration. Type is counter, gauge, histogram or summary; empty if it is not known.
type Metric struct {
	Where, Name, Type, Help string
	Labels                  []string
}

// MetricFaults finds metrics that are not named as ours are: outrigger_, the unit in full and last, _total on counters.
func MetricFaults(all []Metric) (faults []string) {
	for _, m := range all {
		fault := func(format string, args ...any) {
			faults = append(faults, m.Where+": metric "+m.Name+": "+fmt.Sprintf(format, args...))
		}
		if !metricName.MatchString(m.Name) {
			fault("the name is not outrigger_ and lower-case words")
		}
		if m.Help == "" {
			fault("no help")
		}
		total := strings.HasSuffix(m.Name, "_total")
		unit := strings.HasSuffix(m.Name, "_seconds") || strings.HasSuffix(m.Name, "_bytes")
		switch {
		case m.Type == "counter" && !total:
			fault("a counter ends in _total")
		case m.Type != "counter" && m.Type != "" && total:
			fault("only a counter ends in _total")
		case (m.Type == "histogram" || m.Type == "summary") && !unit:
			fault("a %s ends in its unit, _seconds or _bytes", m.Type)
		}
		for word := range strings.SplitSeq(m.Name, "_") {
			if slices.Contains([]string{"ms", "milliseconds", "us", "micros", "minutes", "kb", "kib", "mb", "mib", "percent"}, word) {
				fault("units are seconds, bytes and ratios, not %s", word)
			}
		}
		for _, l := range m.Labels {
			if slices.Contains(unbounded, l) {
				fault("label %s: each of its values would be a series", l)
			}
		}
	}
	return faults
}

// UnexplainedMetrics finds metrics that the documentation does not name.
func UnexplainedMetrics(all []Metric, pages string) (faults []string) {
	for _, m := range all {
		if !strings.Contains(pages, "`"+m.Name+"`") {
			faults = append(faults, m.Where+": metric "+m.Name+" is not explained in docs/observability.md")
		}
	}
	return faults
}

// Gathered are the metrics of a registry, without those that the Prometheus library has of Go and the process.
func Gathered(families []*dto.MetricFamily) (all []Metric) {
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "go_") || strings.HasPrefix(f.GetName(), "process_") {
			continue
		}
		m := Metric{Where: "registry", Name: f.GetName(), Type: strings.ToLower(f.GetType().String()), Help: f.GetHelp()}
		for _, l := range f.GetMetric()[0].GetLabel() {
			m.Labels = append(m.Labels, l.GetName())
		}
		all = append(all, m)
	}
	return all
}

var optionTypes = map[string]string{"CounterOpts": "counter", "GaugeOpts": "gauge", "HistogramOpts": "histogram", "SummaryOpts": "summary"}

// DeclaredMetrics finds where Go files declare metrics: options with a literal name, the labels of vectors, descriptions.
func DeclaredMetrics(files map[string]string) (all []Metric, err error) {
	fset := token.NewFileSet()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, "_test.go") || generated(files[name]) {
			continue
		}
		file, err := parser.ParseFile(fset, name, files[name], parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			m, ok := declared(n)
			if ok {
				m.Where = fset.Position(n.Pos()).String()
				all = append(all, m)
			}
			return !ok
		})
	}
	return all, nil
}

func declared(n ast.Node) (m Metric, ok bool) {
	switch n := n.(type) {
	case *ast.CompositeLit:
		return options(n)
	case *ast.CallExpr:
		if nameOf(n.Fun) == "NewDesc" && len(n.Args) > 2 {
			return Metric{Name: text(n.Args[0]), Help: text(n.Args[1]), Labels: texts(n.Args[2])}, true
		}
		if strings.HasSuffix(nameOf(n.Fun), "Vec") && len(n.Args) == 2 {
			if lit, isLit := n.Args[0].(*ast.CompositeLit); isLit {
				m, ok = options(lit)
				m.Labels = append(m.Labels, texts(n.Args[1])...)
			}
		}
	}
	return m, ok
}

// options reads prometheus.XOpts{Name: ..., Help: ..., ConstLabels: ...}.
func options(lit *ast.CompositeLit) (m Metric, ok bool) {
	if m.Type, ok = optionTypes[nameOf(lit.Type)]; !ok {
		return m, false
	}
	parts := map[string]string{}
	for _, e := range lit.Elts {
		kv, isPair := e.(*ast.KeyValueExpr)
		if !isPair {
			continue
		}
		parts[nameOf(kv.Key)] = text(kv.Value)
		if labels, isLit := kv.Value.(*ast.CompositeLit); isLit && nameOf(kv.Key) == "ConstLabels" {
			for _, l := range labels.Elts {
				if pair, isPair := l.(*ast.KeyValueExpr); isPair {
					m.Labels = append(m.Labels, text(pair.Key))
				}
			}
		}
	}
	words := slices.DeleteFunc([]string{parts["Namespace"], parts["Subsystem"], parts["Name"]}, func(w string) bool { return w == "" })
	m.Name, m.Help = strings.Join(words, "_"), parts["Help"]
	return m, true
}

// text is a string literal's value, and "?" for an expression, which is not read.
func text(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		return "?"
	}
	value, err := strconv.Unquote(lit.Value)
	if err != nil {
		return "?"
	}
	return value
}

func texts(e ast.Expr) (all []string) {
	if lit, ok := e.(*ast.CompositeLit); ok {
		for _, l := range lit.Elts {
			all = append(all, text(l))
		}
	}
	return all
}
