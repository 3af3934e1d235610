// Package configs_test holds that each file of this folder is one that the standard build takes.
package configs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/outrigger-mesh/outrigger/components"
	_ "github.com/outrigger-mesh/outrigger/components/all"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// environment has the variables that the files refer to.
var environment = config.Environment{LookupEnv: func(name string) (string, bool) {
	value, set := map[string]string{"NAMESPACE": "shop"}[name]
	return value, set
}}

func read(t *testing.T, path string) (text []byte, data any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Load(text, &data); err != nil {
		t.Fatal(err)
	}
	return text, data
}

func TestEachFileLoads(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%v, %v", files, err)
	}
	schema := schema(t)
	for _, file := range files {
		c, err := config.Load(file, config.Overrides{}, environment)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, component := range c.Components {
			if _, err := component.Resolve(func(string, string) (string, error) { return "secret", nil }); err != nil {
				t.Errorf("%s: %v", component.Position, err)
			}
		}
		if _, data := read(t, file); schema.Validate(data) != nil {
			t.Errorf("%s: %v", file, schema.Validate(data))
		}
	}
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := config.Schema(components.Catalogs())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("outrigger.json", doc); err != nil {
		t.Fatal(err)
	}
	return compiler.MustCompile("outrigger.json")
}

// full.yaml says each field, and says of each what is so without it.
func TestFullIsComplete(t *testing.T) {
	_, written := read(t, "full.yaml")
	c, err := config.Load("bare.yaml", config.Overrides{}, config.Environment{ReadFile: func(string) ([]byte, error) { return bare(written) }})
	if err != nil {
		t.Fatal(err)
	}
	dump, err := config.Dump(c)
	if err != nil {
		t.Fatal(err)
	}
	var effective any
	if err := yaml.Load(dump, &effective); err != nil {
		t.Fatal(err)
	}
	compare(t, "", effective, written)
	drivers := map[string]bool{}
	for _, component := range c.Components {
		drivers[component.Capability+"/"+component.Driver] = true
	}
	for _, catalog := range components.Catalogs() {
		for _, driver := range catalog.Drivers() {
			if !drivers[catalog.Capability()+"/"+driver] {
				t.Errorf("the %s driver %s is not shown", catalog.Capability(), driver)
			}
		}
	}
}

// bare leaves of full.yaml what has no default: the application, the registry, and components with their drivers.
func bare(written any) ([]byte, error) {
	root := written.(map[string]any)
	kept := map[string]any{"app": map[string]any{"id": "app"}, "mesh": map[string]any{"registry": "default"}}
	for _, catalog := range components.Catalogs() {
		section := map[string]any{}
		written, _ := root[catalog.Capability()].(map[string]any)
		for name, component := range written {
			section[name] = map[string]any{"driver": component.(map[string]any)["driver"]}
		}
		kept[catalog.Capability()] = section
	}
	return yaml.Dump(kept)
}

func compare(t *testing.T, path string, want, got any) {
	t.Helper()
	a, isMap := want.(map[string]any)
	b, _ := got.(map[string]any)
	if !isMap {
		if secret := want == "***" && got == ""; !secret && !reflect.DeepEqual(want, got) {
			t.Errorf("%s is %v, full.yaml says %v", path, want, got)
		}
		return
	}
	for name, value := range a {
		if _, said := b[name]; !said {
			t.Errorf("%s.%s is missing in full.yaml: it is %v", path, name, value)
			continue
		}
		compare(t, path+"."+name, value, b[name])
	}
}

// Without a file there is a component called default for each capability of the build.
func TestEachCapabilityHasADefault(t *testing.T) {
	c, err := config.Load("", config.Overrides{}, config.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, component := range c.Components {
		has[component.Capability] = has[component.Capability] || component.Name == "default"
	}
	for _, catalog := range components.Catalogs() {
		if !has[catalog.Capability()] {
			t.Errorf("%s has no default component: runtime/config/defaults.yaml names none", catalog.Capability())
		}
	}
}

// Applications of one machine can run side by side with these.
func TestShopSharesAMachine(t *testing.T) {
	taken := map[string]string{}
	for _, file := range []string{"shop-orders.yaml", "shop-stock.yaml"} {
		c, err := config.Load(file, config.Overrides{}, environment)
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{c.API.GRPC, c.API.HTTP, c.Admin.Address, c.Mesh.Inbound.Address, c.Mesh.Outbound.Address} {
			if taken[address] != "" {
				t.Errorf("%s of %s is that of %s", address, file, taken[address])
			}
			taken[address] = file
		}
	}
}
