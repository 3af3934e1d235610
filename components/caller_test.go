package components_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
)

func TestStoredKeyTellsItsCaller(t *testing.T) {
	if got, err := (components.Caller{Namespace: "shop", App: "orders"}).StoredKey("a/b"); got != "shop/orders/a/b" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, c := range []components.Caller{{}, {Namespace: "shop"}, {App: "orders"}, {Namespace: "shop/x", App: "orders"}, {Namespace: "shop", App: "x/orders"}} {
		if got, err := c.StoredKey("k"); !errors.Is(err, components.ErrUnauthenticated) {
			t.Errorf("%+v: %q, %v; want ErrUnauthenticated", c, got, err)
		}
	}
	if _, err := (components.Caller{Namespace: "shop", App: "orders"}).StoredKey(""); !errors.Is(err, components.ErrInvalid) {
		t.Errorf("no key: %v, want ErrInvalid", err)
	}
}

// FuzzStoredKey looks for two callers that meet.
func FuzzStoredKey(f *testing.F) {
	f.Add("a", "b", "c/d", "a", "b/c", "d")
	f.Add("a/b", "c", "d", "a", "b", "c/d")
	f.Add("a", "bc", "k", "ab", "c", "k")
	f.Add("", "a", "b", "a", "", "b")
	f.Fuzz(func(t *testing.T, namespace1, app1, key1, namespace2, app2, key2 string) {
		one, err1 := components.Caller{Namespace: namespace1, App: app1}.StoredKey(key1)
		two, err2 := components.Caller{Namespace: namespace2, App: app2}.StoredKey(key2)
		if err1 != nil || err2 != nil {
			return
		}
		same := namespace1 == namespace2 && app1 == app2 && key1 == key2
		if (one == two) != same || !strings.HasSuffix(one, key1) {
			t.Fatalf("%q of %s, %s, %s and %q of %s, %s, %s", one, namespace1, app1, key1, two, namespace2, app2, key2)
		}
	})
}
