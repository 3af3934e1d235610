package components_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
)

func TestKeysThatCannotBe(t *testing.T) {
	for name, key := range map[string]string{
		"empty": "", "too long": strings.Repeat("k", components.MaxKey+1), "NUL": "a\x00b", "invalid UTF-8": "a\xff",
	} {
		if err := components.CheckKey(key); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if err := components.CheckKey(strings.Repeat("k", components.MaxKey)); err != nil {
		t.Errorf("the longest key: %v", err)
	}
	if err := components.CheckPrefix(""); err != nil {
		t.Errorf("an empty prefix: %v", err)
	}
}

func TestPageTokenLeadsOn(t *testing.T) {
	limit, after, err := components.Page(0, components.PageToken("a/ü"))
	if err != nil || limit != components.MaxPage || after != "a/ü" {
		t.Fatalf("limit %d, after %q, %v", limit, after, err)
	}
}

func FuzzPage(f *testing.F) {
	f.Add(10, "")
	f.Add(1000, "YQ")
	f.Add(-1, "%%")
	f.Fuzz(func(t *testing.T, size int, token string) {
		limit, after, err := components.Page(size, token)
		if err != nil {
			if !errors.Is(err, components.ErrInvalid) {
				t.Fatalf("not ErrInvalid: %v", err)
			}
			return
		}
		if limit < 1 || limit > components.MaxPage || token != "" && components.CheckKey(after) != nil {
			t.Fatalf("limit %d, after %q", limit, after)
		}
	})
}
