package etcd

import (
	"reflect"
	"testing"

	"github.com/outrigger-mesh/outrigger/components/config"
)

func TestHeaders(t *testing.T) {
	for _, item := range []config.Item{
		{Value: []byte{}}, {Value: []byte("plain")}, {Value: []byte(magic)}, {Value: []byte(magic + "{}\n")}, {Value: []byte("\n{}"), ContentType: "text/plain"},
		{Value: []byte{}, Metadata: map[string]string{"who": "ü\n\""}},
	} {
		var got config.Item
		if err := unpack([]byte(pack(item)), &got); err != nil || !reflect.DeepEqual(got, item) {
			t.Errorf("%+v comes back as %+v, %v", item, got, err)
		}
	}
	if got := pack(config.Item{Value: []byte("plain")}); got != "plain" {
		t.Errorf("a plain value is kept as %q", got)
	}
	for _, bad := range []string{magic, magic + "{}", magic + "none\nx"} {
		if unpack([]byte(bad), &config.Item{}) == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestCommon(t *testing.T) {
	for want, sel := range map[string]config.Selection{
		"ns/a": {Keys: []string{"ns/a"}}, "ns/": {Keys: []string{"ns/a"}, Prefixes: []string{"ns/"}}, "ns/dir/": {Prefixes: []string{"ns/dir/x", "ns/dir/y"}},
		"ns/k": {Keys: []string{"ns/k", "ns/kk", "ns/ka"}},
	} {
		if got := common(sel); got != want {
			t.Errorf("%+v have %q in common, want %q", sel, got, want)
		}
	}
}
