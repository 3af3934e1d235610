package client

import (
	"maps"
	"strconv"
	"testing"

	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
)

// FuzzSeen lets a store change, a stream tell of it, and the stream break off and begin again, and holds after each message that
// the reader knows what is there, and was told nothing twice. Key k1 is watched by name, the others by prefix.
func FuzzSeen(f *testing.F) {
	f.Add([]byte{0, 1, 2, 9, 4, 8, 0, 9, 5, 8})
	f.Add([]byte{9, 1, 8, 5, 9, 1, 9, 8, 8})
	f.Add([]byte{0, 8, 4, 8, 9, 1, 8, 5, 8, 9})
	f.Add([]byte{0, 1, 9, 7, 4, 1, 8, 8, 7, 9})
	f.Fuzz(func(t *testing.T, steps []byte) {
		store, told := map[string]string{}, map[string]string{} // as is, and as the stream has told
		reader := newSeen([]string{"k1"})
		knows, absent := map[string]string{}, false // absent: that k1 is was said
		version, broken := 0, false                 // broken: the stream has ended within the initial state
		handle := func(m *configv1.WatchResponse) {
			for _, change := range reader.news(m) {
				before, there := knows[change.Key]
				switch {
				case !change.Deleted && there && before == change.Item.Version:
					t.Fatalf("%s was told twice", change.Key)
				case change.Deleted && !there && (change.Key != "k1" || absent):
					t.Fatalf("%s was not there", change.Key)
				case change.Deleted:
					delete(knows, change.Key)
				default:
					knows[change.Key] = change.Item.Version
				}
				if change.Key == "k1" {
					absent = change.Deleted
				}
			}
		}
		deliver := func(initial bool) {
			m := message(store, told, initial)
			if initial {
				reader.begin()
			}
			for _, change := range m.GetChanges() {
				if initial { // one by one
					handle(&configv1.WatchResponse{Initial: true, More: true, Changes: []*configv1.WatchResponse_Change{change}})
				}
			}
			if initial {
				m.Changes = nil
			}
			handle(m)
			told = maps.Clone(store)
			if _, there := store["k1"]; !maps.Equal(knows, store) || absent == there {
				t.Fatalf("the reader knows %v (k1 absent: %v), there is %v", knows, absent, store)
			}
		}
		deliver(true)
		for _, step := range steps {
			key := "k" + strconv.Itoa(int(step%4))
			switch {
			case step%10 == 9, step%10 == 8 && broken:
				deliver(true)
				broken = false
			case step == 7:
				broken = true
				reader.begin()
				handle(&configv1.WatchResponse{Initial: true, More: true, Changes: message(store, told, true).GetChanges()})
			case step%10 == 8:
				deliver(false)
			case step%8 < 4:
				version++
				store[key] = strconv.Itoa(version)
			default:
				delete(store, key)
			}
		}
	})
}

func message(store, told map[string]string, initial bool) *configv1.WatchResponse {
	m := &configv1.WatchResponse{Initial: initial}
	for key, version := range store {
		if initial || told[key] != version {
			m.Changes = append(m.Changes, &configv1.WatchResponse_Change{Key: key, Item: &configv1.Item{Key: key, Version: version}})
		}
	}
	for key := range told {
		if _, there := store[key]; !there && !initial {
			m.Changes = append(m.Changes, &configv1.WatchResponse_Change{Key: key})
		}
	}
	return m
}

// A sidecar that cannot ask its back end begins with what it knows, which may be less than there is.
func TestNothingIsGoneDuringAnOutage(t *testing.T) {
	item := func(key string, stale bool) *configv1.WatchResponse_Change {
		return &configv1.WatchResponse_Change{Key: key, Item: &configv1.Item{Key: key, Version: "1", Stale: stale}}
	}
	reader := newSeen(nil)
	reader.begin()
	reader.news(&configv1.WatchResponse{Initial: true, Changes: []*configv1.WatchResponse_Change{item("a", false), item("b", false)}})
	reader.begin()
	if got := reader.news(&configv1.WatchResponse{Initial: true, Changes: []*configv1.WatchResponse_Change{item("a", true)}}); len(got) != 0 {
		t.Fatalf("during an outage it was told %v", got)
	}
	reader.begin()
	got := reader.news(&configv1.WatchResponse{Initial: true, Changes: []*configv1.WatchResponse_Change{item("a", false)}})
	if len(got) != 1 || got[0].Key != "b" || !got[0].Deleted {
		t.Fatalf("after it, it was told %v, want that b is gone", got)
	}
}
