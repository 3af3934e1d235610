package nacos_test

import (
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/nacos"
)

func TestOptions(t *testing.T) {
	defaults, _ := registry.Drivers.Defaults("nacos")
	for want, change := range map[string]func(*nacos.Options){
		"":           func(*nacos.Options) {},
		"addresses":  func(o *nacos.Options) { o.Nacos.Addresses = nil },
		"hold":       func(o *nacos.Options) { o.Hold = -1 },
		"namespaces": func(o *nacos.Options) { o.Namespaces = map[string]string{"a": ""} },
	} {
		o := defaults.(nacos.Options)
		o.Nacos.Addresses = []string{"10.0.0.1:8848"}
		change(&o)
		if err := o.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
