package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := config.Schema(catalogs())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("outrigger.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("outrigger.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// beyond are the files of testdata whose faults a schema cannot see: they are no YAML at all, or lie in how values are written or fit together.
var beyond = []string{
	"tab-indent", "not-yaml", "invalid-utf8", "two-documents", "duplicate-key", "duplicate-section", "duplicate-component", "merge-key", "tag",
	"anchor-inside-itself", "unset-variable", "bad-reference", "misplaced-secret", "missing-file", "value-of-reference", "unknown-secret", "circle", "one-port", "bad-address", "bad-advertise",
	"no-app-id", "bad-services", "unknown-registry", "options-that-clash", "negative-limit", "loose-numbers", "bad-tls", "no-policies-key",
	"unknown-policies-component", "tcp-services", "no-registry-chosen",
}

func TestSchemaSeesFaults(t *testing.T) {
	schema := compile(t)
	files, _ := filepath.Glob("testdata/*.bad.yaml")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bad.yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(beyond, name) {
			continue
		}
		var doc any
		if err := yaml.Load(text, &doc); err == nil && schema.Validate(doc) == nil {
			t.Errorf("%s: the schema sees no fault", name)
		}
	}
}

func TestSchemaTakesWhatLoads(t *testing.T) {
	schema := compile(t)
	for _, text := range []string{full, before, "app: {id: a, port: 1}\nadmin: {pprof: true}\n",
		"cache: {a: {driver: memory, options: {max_bytes: 0, timeout: 0, small: 255, ratio: 0.5, lazy: true, hosts: [], labels: {a: 1}, mode: fifo}}}",
		"cache: {a: {driver: memory, options: {timeout: 1h2.5m.5s, max_bytes: 64 KiB, small: '${env:NUMBER}', lazy: '${env:X}'}}}"} {
		var doc any
		if err := yaml.Load([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	schema := compile(t)
	for _, text := range []string{"cache: {a: {}}", "cache: {a: {driver: memory, options: {timeout: 5}}}", "cache: {a: {driver: memory, options: {hosts: {}}}}",
		"cache: {a: {driver: memory, options: {small: 256}}}", "cache: {a: {driver: redis, options: {shards: 1}}}", "cache: {A: {driver: memory}}",
		"app: {services: [{nam: x}]}", "cache: {a: {driver: memory, options: {mode: lifo}}}", "admin: {pprof: 1}"} {
		var doc any
		if err := yaml.Load([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if schema.Validate(doc) == nil {
			t.Errorf("the schema takes %s", text)
		}
	}
}

// What an editor shows comes from the code.
func TestSchemaDescribes(t *testing.T) {
	text, err := config.Schema(catalogs())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"https://json-schema.org/draft/2020-12/schema"`, `"what it holds at most"`, `"64MiB"`, `"the application's name, a DNS label"`, `"fifo"`} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("%s is not in the schema", want)
		}
	}
	if bytes.Contains(text, []byte("***")) {
		t.Error("a secret has a default")
	}
}
