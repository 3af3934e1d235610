package local_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/store/storetest"
)

// TestUnreadableRecords: what asks for them is told which it is, until they are set or deleted; other keys are served.
func TestUnreadableRecords(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, components.NewShared())
	if _, err := d.(config.Setter).Set(t.Context(), config.Item{Key: "ns/sound", Value: []byte("v")}, ""); err != nil {
		t.Fatal(err)
	}
	shut(t, d)
	storetest.Put(t, dir, "config", map[string][]byte{"default/ns/a": []byte("garbage"), "default/ns/b": {2, 0xa0}})

	d = open(t, dir, components.NewShared())
	damaged := func(what, key string, err error) {
		t.Helper()
		if !errors.Is(err, components.ErrDamaged) || errors.Is(err, components.ErrUnavailable) || !strings.Contains(err.Error(), "default/ns/"+key) {
			t.Errorf("%s: %v; want that %s is damaged", what, err, key)
		}
	}
	watch := func(sel config.Selection) (told int, err error) {
		enough := errors.New("enough")
		err = d.Watch(t.Context(), sel, func(all []config.Change, _ bool) error {
			told = len(all)
			return enough
		})
		if errors.Is(err, enough) {
			err = nil
		}
		return told, err
	}
	for _, key := range []string{"a", "b"} {
		_, err := d.Get(t.Context(), "ns/"+key)
		damaged("get", key, err)
		_, err = d.(config.Setter).Set(t.Context(), config.Item{Key: "ns/" + key}, "1-1")
		damaged("set with a version", key, err)
		_, err = watch(config.Selection{Keys: []string{"ns/" + key}})
		damaged("watch", key, err)
	}
	_, err := d.List(t.Context(), "ns/", "", 10)
	damaged("list", "a", err)
	_, err = watch(config.Selection{Prefixes: []string{"ns/"}})
	damaged("watch of all", "a", err)

	if item, err := d.Get(t.Context(), "ns/sound"); err != nil || string(item.Value) != "v" {
		t.Errorf("another key: %q, %v", item.Value, err)
	}
	if told, err := watch(config.Selection{Keys: []string{"ns/sound"}}); err != nil || told != 1 {
		t.Errorf("a watch of another key is told of %d: %v", told, err)
	}
	if _, err := d.(config.Setter).Set(t.Context(), config.Item{Key: "ns/a"}, ""); err != nil {
		t.Errorf("set: %v", err)
	}
	if err := d.(config.Deleter).Delete(t.Context(), "ns/b"); err != nil {
		t.Errorf("delete: %v", err)
	}
	if told, err := watch(config.Selection{Prefixes: []string{"ns/"}}); err != nil || told != 2 {
		t.Errorf("a watch of all, when they are mended, is told of %d: %v", told, err)
	}
}

func shut(t *testing.T, d config.Driver) {
	t.Helper()
	if err := d.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}
