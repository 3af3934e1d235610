package publish

import (
	"maps"
	"testing"
)

// What can be read is written and read again as the same; what cannot is refused as a whole.
func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"publications":[{"namespace":"shop","name":"a","group":"g","version":"2","protocol":"grpc","port":1,"weight":3,"zone":"z","labels":{"k":"v"}}]}`))
	f.Add([]byte(`{"version":1,"publications":[{"namespace":"shop","name":"a","port":70000}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parse(text)
		if err != nil {
			if all != nil {
				t.Fatal("part of it was taken over")
			}
			return
		}
		out, err := format(all)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(out)
		if err != nil || !maps.EqualFunc(all, again, same) {
			t.Fatalf("%v became %v: %v", all, again, err)
		}
	})
}
