package nacosconn_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

// TestOnlyMessagesOfTheSDK: its clients, its logger and its metrics are not in the binary.
func TestOnlyMessagesOfTheSDK(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const sdk = "github.com/nacos-group/nacos-sdk-go/v2/"
	found := 0
	for name := range strings.FieldsSeq(string(out)) {
		if part, ok := strings.CutPrefix(name, sdk); ok {
			found++
			if part != "api/grpc" && part != "model" {
				t.Errorf("%s is linked", name)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d packages of the SDK are linked, want 2", found)
	}
}

func TestOptions(t *testing.T) {
	good := func(change func(*nacosconn.Options)) nacosconn.Options {
		o := nacosconn.Defaults()
		o.Addresses = []string{"10.0.0.1:8848"}
		change(&o)
		return o
	}
	for want, change := range map[string]func(*nacosconn.Options){
		"":                 func(*nacosconn.Options) {},
		"addresses":        func(o *nacosconn.Options) { o.Addresses = nil },
		"no port":          func(o *nacosconn.Options) { o.GRPCOffset = 60000 },
		"there is no user": func(o *nacosconn.Options) { o.Password = "x" },
		"context_path":     func(o *nacosconn.Options) { o.ContextPath = "nacos/" },
		"timeout":          func(o *nacosconn.Options) { o.Timeout = 0 },
		"heartbeat":        func(o *nacosconn.Options) { o.Heartbeat = 21e9 },
		"tls":              func(o *nacosconn.Options) { o.TLS = backend.TLS{CA: "x"} },
		"is no address":    func(o *nacosconn.Options) { o.Addresses = []string{"http://10.0.0.1:8848/nacos"} },
	} {
		err := good(change).Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestKey: who has another password has another connection, and no key shows one.
func TestKey(t *testing.T) {
	o := nacosconn.Defaults()
	o.User, o.Password = "a", "one"
	other := o
	if o.Key() != other.Key() {
		t.Error("equal options have different keys")
	}
	other.Password = components.Secret("two")
	if o.Key() == other.Key() {
		t.Error("two passwords have one key")
	}
}

func TestNamespaces(t *testing.T) {
	names := map[string]string{"default": "public", "shop": "4c1e2b7a-0000-4000-8000-123456789abc"}
	if err := nacosconn.CheckNamespaces(names); err != nil {
		t.Error(err)
	}
	for in, want := range map[string]string{"default": "public", "shop": names["shop"], "other": "other", "a.b_c": "a_2Eb_5Fc"} {
		if got := nacosconn.Namespace(names, in); got != want {
			t.Errorf("%s is kept in %s, want %s", in, got, want)
		}
	}
	for _, bad := range []map[string]string{{"a": ""}, {"a": "x y"}, {"a": "ü"}, {"a": "x", "b": "x"}, {"a": strings.Repeat("x", 65)}} {
		if nacosconn.CheckNamespaces(bad) == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}
