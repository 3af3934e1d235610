package nacos_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/config/nacos"
)

func TestDataIDs(t *testing.T) {
	for key, want := range map[string]string{
		"app.properties": "app.properties", "features/checkout": "features:checkout", "a/b/c_d-e.1": "a:b:c_d-e.1", "ü": "::C3::BC", "a/ü": "a:::C3::BC",
		"a:b": "a::3Ab", "a/:/b": "a:::3A:b", "a b%": "a::20b::25",
	} {
		if got := nacos.DataID(key); got != want {
			t.Errorf("%q is in %q, want %q", key, got, want)
		}
	}
	for _, id := range []string{"", ":", "a:", ":a", "a::", "a:.:b", "a::2fb", "a::41", "cipher-x", "..", "a::00"} {
		if key, ok := nacos.KeyOf(id); ok {
			t.Errorf("%q is taken for the key %q, of which the data id is %q", id, key, nacos.DataID(key))
		}
	}
}

var taken = regexp.MustCompile(`^[a-zA-Z0-9-_:.]*$`)

// FuzzNames: every key comes back from its data id, and Nacos takes that; a prefix of a key is one of its data id.
func FuzzNames(f *testing.F) {
	f.Add("a/b", 1)
	f.Add("a/::41/ü", 4)
	f.Fuzz(func(t *testing.T, key string, cut int) {
		for segment := range strings.SplitSeq(key, "/") {
			if segment == "" || segment == "." || segment == ".." {
				return
			}
		}
		if !utf8.ValidString(key) || strings.Contains(key, "\x00") || len(key) > 1024 || strings.HasPrefix(key, "cipher-") {
			return
		}
		id := nacos.DataID(key)
		if back, ok := nacos.KeyOf(id); !ok || back != key || !taken.MatchString(id) {
			t.Errorf("%q is in %q, which is read as %q, %v", key, id, back, ok)
		}
		if cut >= 0 && cut <= len(key) && !strings.HasPrefix(id, nacos.DataID(key[:cut])) {
			t.Errorf("%q does not begin with %q", id, nacos.DataID(key[:cut]))
		}
	})
}

// FuzzContents: every value comes back, and Nacos takes it: as text that is neither blank nor has what databases do not keep.
func FuzzContents(f *testing.F) {
	for _, seed := range []string{"", " ", "on", "\x00", "\xff", "outrigger-base64:", "outrigger-base64:!", "ü\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		content := nacos.ContentOf(value)
		if !bytes.Equal(nacos.ValueOf(content), value) || strings.TrimSpace(content) == "" || !utf8.ValidString(content) || strings.Contains(content, "\x00") {
			t.Errorf("%q is %q, which is read as %q", value, content, nacos.ValueOf(content))
		}
	})
}

func TestOptions(t *testing.T) {
	defaults, _ := config.Drivers.Defaults("nacos")
	for want, change := range map[string]func(*nacos.Options){
		"":              func(*nacos.Options) {},
		"addresses":     func(o *nacos.Options) { o.Nacos.Addresses = nil },
		"group":         func(o *nacos.Options) { o.Group = "a/b" },
		"list_interval": func(o *nacos.Options) { o.ListInterval = 0 },
		"namespaces":    func(o *nacos.Options) { o.Namespaces = map[string]string{"a": "x", "b": "x"} },
	} {
		o := defaults.(nacos.Options)
		o.Nacos.Addresses = []string{"10.0.0.1:8848"}
		change(&o)
		if err := o.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
