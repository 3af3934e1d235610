package configtest

import (
	"fmt"
	"slices"
)

func (s *suite) list(prefix, after string, limit int) (keys []string) {
	s.Helper()
	items, err := s.Driver.List(s.ctx, prefix, after, limit)
	if err != nil {
		s.Fatalf("list %q after %q: %v", prefix, after, err)
	}
	for _, item := range items {
		keys = append(keys, item.Key)
	}
	return keys
}

func (s *suite) wantList(prefix, after string, limit int, want ...string) {
	s.Helper()
	if got := s.list(prefix, after, limit); !slices.Equal(got, want) {
		s.Errorf("list %q after %q, up to %d: %q, want %q", prefix, after, limit, got, want)
	}
}

func listOrder(s *suite) {
	s.wantList("ns/", "", 10)
	for _, key := range []string{"ns/b", "ns/a/c", "ns/a-b", "ns/a/b", "ns/B", "ns/ab"} { // "-" is before "/"
		s.put(key, "value of "+key)
	}
	s.wantList("ns/", "", 10, "ns/B", "ns/a-b", "ns/a/b", "ns/a/c", "ns/ab", "ns/b")
	items, err := s.Driver.List(s.ctx, "ns/a/", "", 10)
	if err != nil || len(items) != 2 {
		s.Fatalf("list: %d items, %v", len(items), err)
	}
	for _, item := range items {
		if got := s.get(item.Key); string(item.Value) != "value of "+item.Key || item.Version != got.Version || item.ContentType != got.ContentType {
			s.Errorf("list has %q = %q, version %q, %q; get has version %q, %q", item.Key, item.Value, item.Version, item.ContentType, got.Version, got.ContentType)
		}
	}
}

func listPages(s *suite) {
	var all []string
	for i := range 25 {
		key := fmt.Sprintf("ns/%02d", i)
		s.put(key, key)
		all = append(all, key)
	}
	var got []string
	for after := ""; ; after = got[len(got)-1] {
		page := s.list("ns/", after, 10)
		if len(page) > 10 {
			s.Fatalf("%d items on a page of 10", len(page))
		}
		if len(page) == 0 || len(got) > len(all) {
			break
		}
		got = append(got, page...)
	}
	if !slices.Equal(got, all) {
		s.Errorf("pages of 10 come to %q", got)
	}
	s.wantList("ns/", "ns/23x", 10, "ns/24") // a key that is gone leads on as well
	s.wantList("ns/", "ns/24", 10)
}

func listPrefix(s *suite) {
	for _, key := range []string{"shop/a", "shop/features/x", "shop/feat", "shop2/a", "sho/a", "shop/fea"} {
		s.put(key, "x")
	}
	s.wantList("shop/", "", 10, "shop/a", "shop/fea", "shop/feat", "shop/features/x")
	s.wantList("shop/feat", "", 10, "shop/feat", "shop/features/x")
	s.wantList("shop/features/", "", 10, "shop/features/x")
	s.wantList("shop/none/", "", 10)
	s.wantList("shop/feat/", "", 10)
	s.wantList("none/", "", 10)
	if _, err := s.Driver.List(s.ctx, "shop/a/b/c", "", 10); err != nil {
		s.Errorf("list below a key: %v", err)
	}
}
