package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

func TestPagesAreCurrent(t *testing.T) {
	if err := run("../..", components.Catalogs(), true); err != nil {
		t.Error(err)
	}
}

// TestExamplesLoad has the configurations on the pages checked as a user's file is.
func TestExamplesLoad(t *testing.T) {
	all, err := render("../../components", components.Catalogs())
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for name, page := range all {
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1) {
			examples++
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(path, block[1], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(path, config.Overrides{AppID: "docs"}, config.Environment{}); err != nil {
				t.Errorf("%s: %v in\n%s", name, err, block[1])
			}
		}
	}
	if examples == 0 {
		t.Error("no page has an example")
	}
}

type options struct {
	Redis struct {
		Addr     string            `yaml:"addr" doc:"where|how"`
		Password components.Secret `yaml:"password" doc:"none if it has none"`
	} `yaml:"redis"`
	Timeout time.Duration `yaml:"timeout" doc:"per command"`
	Tags    []string      `yaml:"tags" doc:"any"`
	Nodes   []string      `yaml:"nodes" doc:"some"`
}

func (options) Guarantees() string { return "- Nothing at all." }

// capability writes the sources of a capability with one driver, and answers its folder and its catalog.
func capability(t *testing.T, driverSource string) (root string, catalogs []components.Catalog) {
	t.Helper()
	root = t.TempDir()
	for name, text := range map[string]string{
		"components/store/store.go":            "// Package store keeps things. It is simple.\n//\n// # Drivers\n//\n// Not for users.\npackage store\n",
		"components/store/store_test.go":       "// Package store has a test.\npackage store\n",
		"components/store/redis/redis.go":      driverSource,
		"components/store/redis/redis_test.go": "// Package redis has a test.\npackage redis\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := options{Timeout: 3 * time.Second, Nodes: []string{"a:1", "b:2"}}
	o.Redis.Addr = "localhost:6379"
	o.Redis.Password = "hunter2"
	r := components.NewPrivateRegistry[int]("store")
	components.Register(r, "redis", o, func(context.Context, components.Env, options) (int, error) { return 0, nil })
	return root, []components.Catalog{r}
}

const redisSource = "// Package redis keeps them in Redis:\n//   - always\npackage redis\n"

const storePage = mark + `
# store

Keeps things. It is simple.

## Driver redis

Keeps them in Redis:

  - always

` + "```yaml" + `
store:
  default:
    driver: redis
    options:
      redis:
        addr: "localhost:6379"
      timeout: 3s
      nodes: ["a:1", "b:2"]
` + "```" + `

| option | type | default | what it is |
|---|---|---|---|
| ` + "`redis.addr` | string | `localhost:6379`" + ` | where\|how |
| ` + "`redis.password`" + ` | secret |  | none if it has none |
| ` + "`timeout` | duration | `3s`" + ` | per command |
| ` + "`tags` | []string | `[]`" + ` | any |
| ` + "`nodes` | []string | `[a:1 b:2]`" + ` | some |

Guarantees:

- Nothing at all.
`

func TestPage(t *testing.T) {
	root, catalogs := capability(t, redisSource)
	if err := run(root, catalogs, false); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs/components/store.md"))
	if err != nil || string(page) != storePage {
		t.Errorf("%v:\n%s\nwant\n%s", err, page, storePage)
	}
	index, err := os.ReadFile(filepath.Join(root, "docs/components/README.md"))
	if want := "| [store](store.md) | Keeps things. | redis |\n"; err != nil || !strings.HasSuffix(string(index), want) {
		t.Errorf("%v: %s does not end with %s", err, index, want)
	}
}

func TestDriverWithoutComment(t *testing.T) {
	root, catalogs := capability(t, "package redis\n")
	if err := run(root, catalogs, false); err == nil || !strings.Contains(err.Error(), "no package comment in ") || !strings.HasSuffix(err.Error(), "store/redis") {
		t.Errorf("%v, want that there is no package comment", err)
	}
}

func TestCheckTellsWhatIsStale(t *testing.T) {
	root, catalogs := capability(t, redisSource)
	docs := filepath.Join(root, "docs/components")
	if err := run(root, catalogs, true); err == nil || !strings.Contains(err.Error(), "README.md, store.md (run make gen)") {
		t.Errorf("without pages: %v", err)
	}
	if err := run(root, catalogs, false); err != nil {
		t.Fatal(err)
	}
	if err := run(root, catalogs, true); err != nil {
		t.Errorf("just written: %v", err)
	}
	for name, text := range map[string]string{"store.md": mark + "old", "gone.md": mark + "of a capability that is no more", "guide.md": "by hand"} {
		if err := os.WriteFile(filepath.Join(docs, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(root, catalogs, true); err == nil || !strings.Contains(err.Error(), docs+": gone.md, store.md (run make gen)") {
		t.Errorf("with stale pages: %v", err)
	}
	if err := run(root, catalogs, false); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(docs, "*.md"))
	if err != nil || len(left) != 3 || filepath.Base(left[1]) != "guide.md" {
		t.Errorf("%v, %v; want README.md, guide.md, store.md", left, err)
	}
}
