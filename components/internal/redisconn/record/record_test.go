package record_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/record"
)

func TestItemsComeBack(t *testing.T) {
	seen := map[string]bool{}
	for _, item := range []record.Item{
		{},
		{Value: []byte("v"), ContentType: "text/plain", Ends: true},
		{Value: make([]byte, 300), ContentType: string(make([]byte, 300)), Metadata: map[string]string{"": "", "a": "1", "b": string(make([]byte, 200))}},
	} {
		version, b := record.Encode(item)
		got, err := record.Decode(b)
		if err != nil || string(got.Value) != string(item.Value) || got.ContentType != item.ContentType || got.Ends != item.Ends || !maps.Equal(got.Metadata, item.Metadata) ||
			got.Version != version.String() || string(record.Parse(got.Version)) != string(version[:]) || seen[got.Version] {
			t.Errorf("%+v became %+v, %v", item, got, err)
		}
		seen[got.Version] = true
	}
}

// FuzzDecode shows that nothing in Redis makes the driver panic, and that what is taken is an item that can be written again.
func FuzzDecode(f *testing.F) {
	_, b := record.Encode(record.Item{Value: []byte("v"), ContentType: "text/plain", Metadata: map[string]string{"a": "1"}})
	for n := range b {
		f.Add(b[:n])
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		item, err := record.Decode(b)
		if err != nil {
			if !errors.Is(err, components.ErrDamaged) {
				t.Error(err)
			}
			return
		}
		if _, again := record.Encode(item); len(again) > len(b) {
			t.Errorf("%d bytes became %d", len(b), len(again))
		}
	})
}
