package config_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// What a text says holds before what the file says, section by section; the file's own are left as they are.
func TestParsePolicies(t *testing.T) {
	own := mesh.Policies{Defaults: mesh.DefaultRule(), Routes: []mesh.Route{{Name: "own", Service: "stock", Idempotent: true}},
		Migration: []mesh.Migration{{Service: "stock", Mesh: 1000, Instances: []string{"a:1"}}}}
	own.Defaults.Timeout = time.Second
	before := own
	before.Routes = append([]mesh.Route{}, own.Routes...)
	before.Migration = append([]mesh.Migration{}, own.Migration...)
	before.Defaults.Retry.On = append([]string{}, own.Defaults.Retry.On...)
	p, err := config.ParsePolicies("config central/p", []byte("migration: [{service: stock, mesh: 0%}]\n"), own)
	if err != nil || len(p.Migration) != 1 || p.Migration[0].Mesh != mesh.None || p.Migration[0].Instances != nil || len(p.Routes) != 1 || p.Defaults.Timeout != time.Second {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = config.ParsePolicies("config central/p", []byte("routes: [{service: other, timeout: 2s}]\ndefaults: {retry: {on: [reset], attempts: 3}}\n"), own)
	if err != nil || len(p.Routes) != 1 || p.Routes[0].Name != "" || p.Routes[0].Idempotent || p.Routes[0].Timeout != 2*time.Second || len(p.Migration) != 1 ||
		p.Defaults.Timeout != time.Second || p.Defaults.Retry.Attempts != 3 || p.Defaults.Retry.On[0] != "reset" {
		t.Errorf("%+v, %v", p, err)
	}
	if !reflect.DeepEqual(own, before) {
		t.Errorf("the file's own are %+v, before %+v", own, before)
	}
}

// All that is wrong is said, with its place in the text, and nothing of this machine is read for it.
func TestParsePoliciesFaults(t *testing.T) {
	own := mesh.Policies{Defaults: mesh.DefaultRule()}
	for text, want := range map[string]string{
		"":                     "config central/p:1:1: the text is empty: remove the key to have the policies of each sidecar's own file",
		"# nothing\n":          "config central/p:1:1: the text is empty: remove the key to have the policies of each sidecar's own file",
		"- a\n":                "config central/p:1:1: expected a map of settings and components, found a list",
		"mesh: {routes: []}\n": "config central/p:1:1: unknown section \"mesh\"",
		"routes: [{service: \"${env:HOME}\"}]\n": "config central/p:1:10: routes.0: it says not which service it is for: write service: NAME\n" +
			"config central/p:1:20: routes.0.service: ${env:HOME}: references are not followed here: each sidecar that reads this would find something else",
		"migration: [{service: stock, mesh: 110%}, {service: a b}]\nroutes:\n  - {service: stock, timeout: -1s, retyr: {}}\n": "config central/p:1:36: migration.0.mesh: \"110%\" is not a share: write 0% to 100%\n" +
			"config central/p:1:53: migration.1.service: \"a b\" is not a service: write NAME or NAMESPACE/NAME\n" +
			"config central/p:3:31: routes.0.timeout: \"-1s\" is negative\n" +
			"config central/p:3:36: unknown field \"routes.0.retyr\" (did you mean \"retry\"?)",
	} {
		p, err := config.ParsePolicies("config central/p", []byte(text), own)
		if !errors.Is(err, components.ErrInvalid) || !strings.HasPrefix(err.Error(), want) || !reflect.DeepEqual(p, own) {
			t.Errorf("%q: got\n%v\nwant\n%s", text, err, want)
		}
	}
}
