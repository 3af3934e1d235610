package file

import (
	"bytes"
	"testing"

	"github.com/outrigger-mesh/outrigger/components/registry"
)

// FuzzDecode: whatever is in a file, it is refused or it is a record that can be written again.
func FuzzDecode(f *testing.F) {
	good := entry{since: 7, Record: registry.Record{Address: "10.0.0.1:1", Weight: 100, Metadata: map[string]string{"zone": "a"},
		Service: registry.Service{Namespace: "shop", Group: "g", Name: "stock"}}}
	name := fileName(good.Record, "OWNER")
	data, err := encode(good)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{data, data[:len(data)/2], nil, []byte("{}"), []byte(`{"format":2}`), []byte("null"), bytes.Repeat([]byte("["), 1000)} {
		f.Add(name, seed)
	}
	f.Add("x", data)
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		e, err := decode(name, data)
		if err != nil {
			return
		}
		if e.Check() != nil || fileName(e.Record, ownerOf(name)) != name {
			t.Fatalf("%q is taken for %v", name, e)
		}
		again, err := encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decode(name, again); err != nil || !same([]registry.Record{back.Record}, []registry.Record{e.Record}) || back.since != e.since {
			t.Fatalf("%v comes back as %v, %v", e, back, err)
		}
	})
}
