package config_test

import (
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

const full = `
app: {id: orders, port: "${env:PORT}", services: [{name: "a${env:PORT}"}]}
data_dir: "$${literal}"
cache:
  a: {driver: redis, required: true, options: {redis: {addr: "h:${env:PORT}", password: "${secret:vault/redis}"}, timeout: 1500ms}}
  b: {driver: memory, options: {hosts: [x, "${env:PASSWORD}"], labels: {k: "$${v}"}}}
secret:
  vault: {driver: vault, options: {token: plain-text-token}}
`

func TestDump(t *testing.T) {
	c := must(t, variables, full)
	text, err := config.Dump(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{"8080", "hunter2", "plain-text-token"} {
		if strings.Contains(string(text), leak) {
			t.Errorf("the dump shows %s:\n%s", leak, text)
		}
	}
	// What it writes is the same configuration again, save for the token that it does not tell.
	again := must(t, variables, string(text))
	changes, err := config.Diff(c, again)
	if err != nil || len(changes.Added)+len(changes.Removed) != 0 || len(changes.Changed) != 1 || changes.Changed[0].Name != "vault" {
		t.Errorf("read again it differs: %+v, %v\n%s", changes, err, text)
	}
}

func TestDumpShowsFlags(t *testing.T) {
	port := 9999
	env := variables.environment()
	env.ReadFile = func(string) ([]byte, error) { return []byte(full), nil }
	c, err := config.Load("a.yaml", config.Overrides{AppPort: &port}, env)
	if err != nil {
		t.Fatal(err)
	}
	text, err := config.Dump(c)
	if err != nil || !strings.Contains(string(text), "port: 9999\n") {
		t.Errorf("%v\n%s", err, text)
	}
}
