package local

import (
	"bytes"
	"maps"
	"testing"

	"github.com/outrigger-mesh/outrigger/components/state"
)

// FuzzRecord takes records apart that anybody may have written, and puts together again what is one.
func FuzzRecord(f *testing.F) {
	whole := encodeItem(&state.Item{Value: []byte("value"), ContentType: "text/plain", Metadata: map[string]string{"a": "1", "b": ""}})
	head{deadline: 5, id: 6, salt: 7}.put(whole)
	answer := encodeAnswer([]byte("digest"), transactOut{state.Applied, []string{"v1", ""}})
	head{}.put(answer)
	f.Add(whole)
	f.Add(whole[:len(whole)-8])
	f.Add(answer)
	f.Add([]byte{format})
	f.Fuzz(func(t *testing.T, record []byte) {
		item, err := decodeItem(record)
		if err != nil {
			return
		}
		again, err := decodeItem(append([]byte{format}, encodeItem(&item)[1:]...))
		if err != nil || !bytes.Equal(again.Value, item.Value) || again.ContentType != item.ContentType || !maps.Equal(again.Metadata, item.Metadata) {
			t.Fatalf("%+v became %+v, %v", item, again, err)
		}
		bare, err := decodeItem(withoutValue(record))
		if err != nil || len(bare.Value) != 0 || bare.Version != item.Version || !maps.Equal(bare.Metadata, item.Metadata) {
			t.Fatalf("without its value %+v became %+v, %v", item, bare, err)
		}
		if _, out, err := decodeAnswer(record); err == nil && len(out.Versions) > state.MaxOperations {
			t.Fatalf("an answer of %d versions", len(out.Versions))
		}
	})
}
