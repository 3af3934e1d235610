package house_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/internal/house"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry"
)

// The tests of this file hold the rules over the tree; those of rules_test.go show that each rule can fail.

var packages = sync.OnceValues(func() ([]house.Package, error) { return house.List(root(), "./...") })

func root() string {
	dir, err := house.Root()
	if err != nil {
		panic(err)
	}
	return dir
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func none(t *testing.T, faults []string) {
	t.Helper()
	for _, f := range faults {
		t.Error(f)
	}
}

func files(t *testing.T, extensions ...string) map[string]string {
	t.Helper()
	all := must[map[string]string](t)(house.Files(root(), extensions...))
	if len(all) == 0 {
		t.Fatal("no files: the rule would hold of nothing")
	}
	return all
}

func TestTreeImports(t *testing.T) {
	all := must[[]house.Package](t)(packages())
	if len(all) < 10 {
		t.Fatalf("only %d packages", len(all))
	}
	none(t, house.ImportFaults(all))
}

func TestTreeSDK(t *testing.T) {
	deps := must[[]house.Package](t)(house.List(root(), "-deps", "./sdk/go"))
	if len(deps) < 10 {
		t.Fatalf("only %d packages", len(deps))
	}
	none(t, house.SDKFaults(deps))
}

func TestTreePackageNames(t *testing.T) {
	none(t, house.NameFaults(must[[]house.Package](t)(packages())))
}

func TestTreeSizes(t *testing.T) { none(t, house.SizeFaults(files(t, ".go"))) }

func TestTreeIsFinished(t *testing.T) {
	none(t, house.PromiseFaults(files(t, ".go", ".md", ".proto", ".yaml", ".sh", "Makefile", ".java", ".py", ".ts")))
}

func TestTreeCEL(t *testing.T) {
	for _, name := range []string{"go.mod", "go.sum"} {
		none(t, house.CELFaults(name, string(must[[]byte](t)(os.ReadFile(filepath.Join(root(), name))))))
	}
}

func TestTreeReasons(t *testing.T) {
	ours := files(t, ".go")
	maps.DeleteFunc(ours, func(name, _ string) bool {
		return !slices.ContainsFunc([]string{"components/", "runtime/", "sdk/", "cmd/"}, func(top string) bool { return strings.HasPrefix(name, top) })
	}) // what is left out plays applications, whose reasons are their own
	reasons := must[map[string]string](t)(house.Reasons(ours))
	if _, ok := reasons[string(components.ReasonReloaded)]; !ok {
		t.Fatalf("the search misses a reason that is there; it found %v", slices.Sorted(maps.Keys(reasons)))
	}
	none(t, house.ReasonFaults(reasons, string(must[[]byte](t)(os.ReadFile(filepath.Join(root(), "docs", "errors.md"))))))
}

func TestTreeComments(t *testing.T) {
	public := files(t, ".go")
	maps.DeleteFunc(public, func(name, _ string) bool {
		return !strings.HasPrefix(name, "components/") && !strings.HasPrefix(name, "sdk/")
	})
	none(t, must[[]string](t)(house.CommentFaults(public)))
}

func TestTreeDeclaredMetrics(t *testing.T) {
	declared := must[[]house.Metric](t)(house.DeclaredMetrics(files(t, ".go")))
	if !slices.ContainsFunc(declared, func(m house.Metric) bool { return m.Name == "outrigger_component_call_seconds" && len(m.Labels) == 5 }) {
		t.Fatalf("the search misses a metric that is there; it found %v", declared)
	}
	none(t, house.MetricFaults(declared))
	none(t, house.UnexplainedMetrics(declared, string(must[[]byte](t)(os.ReadFile(filepath.Join(root(), "docs", "observability.md"))))))
}

func TestTreeGatheredMetrics(t *testing.T) {
	tel, err := telemetry.New(t.Context(), config.Telemetry{}, telemetry.Info{Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Close(context.Background())
	id := components.ID{Capability: "cache", Name: "sessions", Driver: "memory"}
	tel.Observer().Observe(t.Context(), id, "get", time.Now(), errors.New("any"))
	tel.Metrics.Mesh("outbound", "grpc", "stock", "v1").Observe(0, time.Second)
	tel.ShowComponents(func() iter.Seq2[components.ID, bool] { return maps.All(map[components.ID]bool{id: true}) })
	families, err := tel.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	gathered := house.Gathered(families)
	for _, name := range []string{"outrigger_component_call_seconds", "outrigger_component_up", "outrigger_mesh_request_seconds", "outrigger_info"} {
		if !slices.ContainsFunc(gathered, func(m house.Metric) bool { return m.Name == name }) {
			t.Errorf("%s is not there", name)
		}
	}
	none(t, house.MetricFaults(gathered))
}
