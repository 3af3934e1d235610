package hint_test

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	schedulev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"
	transactionv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/transaction/v1"
	"github.com/outrigger-mesh/outrigger/runtime/hint"
)

func TestFor(t *testing.T) {
	for _, c := range []struct {
		name  string
		known []string
		want  string
	}{
		{"memroy", []string{"memory", "redis"}, ` (did you mean "memory"?)`},
		{"kafka", []string{"memory", "redis"}, " (have memory, redis)"},
		{"", []string{"memory"}, " (have memory)"},
		{"x", nil, " (there are none)"},
	} {
		if got := hint.For(c.name, c.known); got != c.want {
			t.Errorf("%q among %q: %q, want %q", c.name, c.known, got, c.want)
		}
	}
}

func TestPath(t *testing.T) {
	known := []string{"/outrigger.cache.v1.Cache/Get", "/outrigger.cache.v1.Cache/Set", "/outrigger.state.v1.State/Get"}
	for path, want := range map[string]string{
		"/Cache/Get": known[0], "/cache/get": known[0], "/cache.v1.Cache/Set": known[1], "/outrigger.cache.v1.Cache/Gett": known[0],
		"/Get": "", "/": "", "": "", "/v1.0/state/default": "",
	} {
		if got := hint.Path(path, known); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
	if got := hint.Path("Cache.Get", []string{"Cache/Get", "State/Get"}); got != "Cache/Get" {
		t.Error(got)
	}
}

// What a request lacks is said with what to write.
func TestJSON(t *testing.T) {
	for _, c := range []struct {
		of         proto.Message
		text, want string
	}{
		{&cachev1.SetRequest{}, `{"kye":"a"}`, `(line 1:2): unknown field "kye" (did you mean "key"?)`},
		{&cachev1.GetRequest{}, `{"val":"a"}`, `(line 1:2): unknown field "val" (have component, key)`},
		{&cachev1.SetRequest{}, `{"value":"hello world"}`, `(line 1:10): invalid value for bytes field value: "hello world": bytes are written in base64`},
		{&cachev1.SetRequest{}, `{"ttl":"60"}`, `(line 1:8): invalid google.protobuf.Duration value "60": write seconds with an s, as "60s" or "0.5s"`},
		{&cachev1.SetRequest{}, `{key: a}`, `syntax error (line 1:2): invalid value key`},
		{&transactionv1.RunSagaRequest{}, `{"steps":[{"id":"a"},{"action":{"servise":"b"}}]}`, `(line 1:33): unknown field "servise" (did you mean "service"?)`},
		{&schedulev1.CreateRequest{}, `{"at":"now"}`, ""},
	} {
		err := protojson.Unmarshal([]byte(c.text), c.of)
		if err == nil {
			t.Errorf("%s is taken", c.text)
			continue
		}
		if got := hint.JSON(err, []byte(c.text), c.of.ProtoReflect().Descriptor()); c.want != "" && got != c.want {
			t.Errorf("%s: %s\nwant %s", c.text, got, c.want)
		}
	}
}
