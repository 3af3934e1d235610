package house_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/internal/house"
)

// expect holds that a rule finds the faults that are in what was made up for it, and no others.
func expect(t *testing.T, faults []string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, w) }) {
			t.Errorf("no fault with %q in %q", w, faults)
		}
	}
	if len(faults) != len(want) {
		t.Errorf("%d faults, expected %d: %q", len(faults), len(want), faults)
	}
}

func TestImportRules(t *testing.T) {
	for _, tc := range []struct {
		from, imported string
		fault          string // empty: allowed
	}{
		{"cmd/outrigger", "components/all", ""},
		{"cmd/outrigger", "runtime", ""},
		{"cmd/outrigger", "components/cache/memory", "imports none of driver"},
		{"cmd/docgen", "components", ""},
		{"runtime", "runtime/mesh/grpcproxy", ""},
		{"runtime", "components/cache", ""},
		{"runtime", "components/all", "imports none of components/all"},
		{"runtime", "components/cache/memory", "imports none of driver"},
		{"runtime", "cmd/outrigger", "imports none of cmd"},
		{"runtime/api/native", "proto/outrigger/cache/v1", ""},
		{"runtime/api/native", "components/cache/memory", "imports none of driver"},
		{"runtime/api/native", "components/cache/memory/internal/lru", "imports none of driver"},
		{"runtime/mesh", "components", ""},
		{"runtime/mesh", "runtime/mesh/grpcproxy", "the mesh decides"},
		{"runtime/mesh", "google.golang.org/grpc", "the mesh decides"},
		{"runtime/mesh", "net/http", "the mesh decides"},
		{"runtime/mesh/grpcproxy", "runtime/mesh", ""},
		{"runtime/mesh/grpcproxy", "mosn.io/pkg/buffer", "only runtime/mesh/mosn"},
		{"runtime/mesh/mosn", "mosn.io/pkg/buffer", ""},
		{"runtime/mesh/mosn/bolt", "mosn.io/mosn/pkg/types", ""},
		{"runtime/config", "go.yaml.in/yaml/v4", ""},
		{"components/config/file", "go.yaml.in/yaml/v4", "only runtime/config"},
		{"runtime/config", "gopkg.in/yaml.v3", "unknown fields"},
		{"components", "components/cache", "imports none of capability"},
		{"components", "runtime/config", "imports none of runtime"},
		{"components/cache", "components", ""},
		{"components/cache", "components/cache/memory", "imports none of driver"},
		{"components/cache", "runtime/telemetry", "imports none of runtime"},
		{"components/cache/cachetest", "components/cache", ""},
		{"components/cache/memory", "components/cache", ""},
		{"components/cache/memory", "components/cache/memory/internal/lru", ""},
		{"components/cache/redis", "components/internal/redisconn", ""},
		{"components/cache/redis", "components/cache/memory", "no other driver"},
		{"components/cache/redis", "components/state/redis", "no other driver"},
		{"components/cache/redis", "proto/outrigger/cache/v1", "imports none of proto"},
		{"components/cache/redis", "runtime", "imports none of runtime"},
		{"components/cache/redis", "mosn.io/pkg/log", "only runtime/mesh/mosn"},
		{"components/cache/redis", "components/cache/cachetest", "imports none of conformance suite"},
		{"components/internal/redisconn", "components/cache", "imports none of capability"},
		{"components/cache/redis", "internal/failpoint", ""},
		{"integration/crash", "internal/failpoint", "imports none of internal/failpoint"},
		{"integration/crash/audit", "encoding/json", ""},
		{"integration/crash/audit", house.Module + "/integration/servers", "the standard library alone"},
		{"integration/crash/audit", "google.golang.org/grpc", "the standard library alone"},
		{"components/all", "components/cache/redis", ""},
		{"sdk/go", "proto/outrigger/cache/v1", ""},
		{"sdk/go", "components", "imports none of components"},
		{"sdk/go", "runtime/access", "imports none of runtime"},
		{"proto/outrigger/cache/v1", "proto/outrigger/common/v1", ""},
		{"proto/outrigger/cache/v1", "components", "imports none of components"},
		{"integration", "sdk/go", ""},
		{"integration", "runtime", "imports none of runtime"},
		{"examples/shop/orders", "sdk/go", ""},
		{"examples/shop/orders", "runtime", "imports none of runtime"},
	} {
		imported := tc.imported
		if top, _, _ := strings.Cut(imported, "/"); slices.Contains([]string{"cmd", "components", "internal", "runtime", "proto", "sdk"}, top) {
			imported = house.Module + "/" + imported
		}
		var want []string
		if tc.fault != "" {
			want = []string{tc.fault}
		}
		t.Run(tc.from+" imports "+tc.imported, func(t *testing.T) {
			expect(t, house.ImportFaults([]house.Package{{ImportPath: house.Module + "/" + tc.from, Imports: []string{imported}}}), want...)
		})
	}
}

func TestImportRulesOfTests(t *testing.T) {
	memory := house.Module + "/components/cache/memory"
	expect(t, house.ImportFaults([]house.Package{
		{ImportPath: memory, XTestImports: []string{memory, house.Module + "/components/cache/cachetest"}},
		{ImportPath: house.Module + "/components/cache", XTestImports: []string{memory}},
		{ImportPath: house.Module + "/runtime", TestImports: []string{memory}},
		{ImportPath: house.Module + "/integration", TestImports: []string{house.Module + "/sdk/go"}},
	}))
	expect(t, house.ImportFaults([]house.Package{
		{ImportPath: memory, TestImports: []string{house.Module + "/runtime"}},
		{ImportPath: house.Module + "/components/cache/redis", XTestImports: []string{memory}},
		{ImportPath: house.Module + "/integration", XTestImports: []string{house.Module + "/runtime/config"}},
	}), "memory imports", "no other driver", "integration imports")
}

func TestSDKRule(t *testing.T) {
	expect(t, house.SDKFaults([]house.Package{
		{ImportPath: "net/http", Standard: true}, {ImportPath: "vendor/golang.org/x/net/idna", Standard: true},
		{ImportPath: house.Module + "/sdk/go"}, {ImportPath: house.Module + "/proto/outrigger/cache/v1"},
		{ImportPath: "google.golang.org/grpc/codes"}, {ImportPath: "google.golang.org/protobuf/proto"},
		{ImportPath: "google.golang.org/genproto/googleapis/rpc/status"}, {ImportPath: "golang.org/x/net/http2"},
		{ImportPath: house.Module + "/components"}, {ImportPath: "github.com/prometheus/client_golang/prometheus"},
		{ImportPath: "google.golang.org/grpcother"},
	}), "outrigger/components", "client_golang", "grpcother")
}

func TestNameRule(t *testing.T) {
	expect(t, house.NameFaults([]house.Package{
		{ImportPath: house.Module + "/proto/outrigger/common/v1", Name: "commonv1"},
		{ImportPath: house.Module + "/runtime/config", Name: "config"},
		{ImportPath: house.Module + "/runtime/util", Name: "text"},
		{ImportPath: house.Module + "/runtime/text", Name: "util"},
		{ImportPath: house.Module + "/components/cache/impl", Name: "impl"},
		{ImportPath: house.Module + "/components/common", Name: "common"},
		{ImportPath: house.Module + "/runtime/manager", Name: "manager"},
	}), "runtime/util", "runtime/text", "impl", "components/common", "manager")
}

func TestSizeRule(t *testing.T) {
	long := strings.Repeat("// line\n", 501)
	expect(t, house.SizeFaults(map[string]string{
		"long.go": "package a\n" + long, "fits.go": long[8:], "notes.md": long,
		"made.go":     "// Code generated by protoc-gen-go. DO NOT EDIT.\n\npackage a\n" + long,
		"pretends.go": "package a\n\n// Code generated by hand. DO NOT EDIT.\n" + long,
	}), "long.go has 502 lines", "pretends.go")
}

func TestPromiseRule(t *testing.T) {
	expect(t, house.PromiseFaults(map[string]string{
		"a.go": "package a\n\n// TO" + "DO: later\n", "b.md": "FIX" + "ME\n", "c.go": "var ctx = context.TO" + "DO()\n",
		"d.go": "// Code generated by x. DO NOT EDIT.\n// TO" + "DO\npackage a\n", "e.go": "var mastodon = TODOS\n",
	}), "a.go:3", "b.md:1", "c.go:1")
}

func TestCELRule(t *testing.T) {
	line := func(version string) string { return fmt.Sprintf("github.com/google/cel-go %s h1:x=\n", version) }
	expect(t, house.CELFaults("go.sum", line("v0.5.1")+line("v0.4.9")+line("v0.5.2")+line("v0.26.0")+line("v1.0.0")),
		"v0.5.2", "v0.26.0", "v1.0.0")
}

func TestReasonRule(t *testing.T) {
	reasons, err := house.Reasons(map[string]string{
		"a.go": `package a
const ReasonOne components.Reason = "ONE"
const (
	ReasonTwo = "TWO"
	other     components.Reason = "THREE"
	unrelated = "UNRELATED"
	ReasonText = "not a reason"
)
var e = &Error{Reason: "FOUR", Message: "MESSAGE"}
func f() error { return components.WithReason(err, "FIVE", "KEY", "VALUE") }
func g() error { return x(components.Reason("SIX")) }
`,
		"a_test.go": `package a; const ReasonTest = "IN_TEST"`,
		"b.pb.go":   "// Code generated by x. DO NOT EDIT.\npackage a; const ReasonMade = \"MADE\"",
	})
	if err != nil {
		t.Fatal(err)
	}
	page := "# Errors\n\n## All\n\n### ONE\n\nText.\n\n### `TWO`\nText.\n### FOUR\n\n### FIVE\n\n### GONE\nText.\n### ONE\nText.\n"
	expect(t, house.ReasonFaults(reasons, page),
		"FOUR: a heading and nothing below it", "FIVE: a heading", "GONE: explained, but nothing answers it", "ONE: explained twice",
		"a.go:5:32: THREE is not explained", "SIX is not explained")
}

func TestCommentRule(t *testing.T) {
	faults, err := house.CommentFaults(map[string]string{
		"a/a.go": `// Package a is described.
package a

type Bare struct{}

// Told is.
type Told struct{}

// Group, Named and so on; Mentioned does something.
type (
	Group interface {
		// Specified is told of.
		Specified()
	}
	Named   int
	Unnamed int
)

func (Group) Mentioned() {}

func (Told) Method()        {}
func (Told) Specified()     {}
func (Told) String() string { return "" }
func (*bare) Get()          {}

func Function() {}

// Variables.
var (
	A = 1
	B = 2
)

const Constant = 1

type (
	Grouped int
)

type bare struct{}

func (g *Generic[T]) Do() {}

// Generic is.
type Generic[T any] struct{}
`,
		"b/b.go": "package b\n", "b/b_test.go": "// Package b has it in the wrong place.\npackage b\n\nfunc Helper() {}\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, faults, "Bare has", "Method has", "Function has", "Constant has", "Grouped has", "Unnamed has", "Do has", "b: no package comment")
}

func TestMetricRule(t *testing.T) {
	declared, err := house.DeclaredMetrics(map[string]string{"a.go": `package a
var (
	good   = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "outrigger_call_seconds", Help: "Calls."}, []string{"component", "code"})
	count  = prometheus.NewCounter(prometheus.CounterOpts{Name: "outrigger_calls", Help: "Calls."})
	prefix = prometheus.NewGauge(prometheus.GaugeOpts{Name: "calls", Help: "Calls."})
	total  = prometheus.NewGauge(prometheus.GaugeOpts{Name: "outrigger_calls_total", Help: "Calls."})
	unit   = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "outrigger_call_ms", Help: "Calls."})
	label  = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "outrigger_items", Help: "Items."}, []string{"key"})
	fixed  = prometheus.NewGauge(prometheus.GaugeOpts{Name: "outrigger_items", Help: "Items.", ConstLabels: prometheus.Labels{"user_id": "7"}})
	help   = prometheus.NewGauge(prometheus.GaugeOpts{Name: "outrigger_items"})
	desc   = prometheus.NewDesc("outrigger_Items", "Items.", []string{"topic"}, nil)
	parts  = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "outrigger", Subsystem: "cache", Name: "items", Help: "Items."})
)`})
	if err != nil || len(declared) != 10 {
		t.Fatalf("%d declarations, %v", len(declared), err)
	}
	expect(t, house.MetricFaults(declared), "a.go:4:33: metric outrigger_calls: a counter ends in _total", "metric calls: the name",
		"only a counter ends in _total", "a histogram ends in its unit", "not ms", "label key", "label user_id", "no help",
		"metric outrigger_Items: the name", "label topic")
}

func TestUnexplainedMetricRule(t *testing.T) {
	all := []house.Metric{{Name: "outrigger_items"}, {Name: "outrigger_items_total"}, {Name: "outrigger_item"}}
	expect(t, house.UnexplainedMetrics(all, "| `outrigger_items` | | items |"), "outrigger_items_total", "outrigger_item is")
}
