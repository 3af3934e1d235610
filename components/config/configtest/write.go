package configtest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
)

func (s *suite) setter() config.Setter {
	w, ok := s.Driver.(config.Setter)
	if !ok {
		s.Skip("the driver does not write")
	}
	return w
}

func (s *suite) set(key, value string) (version string) {
	s.Helper()
	version, err := s.setter().Set(s.ctx, config.Item{Key: key, Value: []byte(value)}, "")
	if err != nil {
		s.Fatalf("set %q: %v", key, err)
	}
	return version
}

func (s *suite) wantValue(key, value, version string) {
	s.Helper()
	if got := s.get(key); string(got.Value) != value || got.Version != version {
		s.Errorf("get %q: %q, version %q; want %q, version %q", key, got.Value, got.Version, value, version)
	}
}

func set(s *suite) {
	w := s.setter()
	first := s.set("ns/deep/k", "one")
	s.wantValue("ns/deep/k", "one", first)
	second := s.set("ns/deep/k", "two")
	s.wantValue("ns/deep/k", "two", second)
	s.wantValue("ns/deep/k", "one", s.set("ns/deep/k", "one"))
	if third := s.get("ns/deep/k").Version; third == first || third == second || first == second {
		s.Errorf("versions %q, %q, %q are not different", first, second, third)
	}
	lent := []byte("lent")
	version, err := w.Set(s.ctx, config.Item{Key: "ns/lent", Value: lent}, "")
	if err != nil {
		s.Fatal(err)
	}
	copy(lent, "XXXX")
	s.wantValue("ns/lent", "lent", version)
	s.wantValue("ns/empty", "", s.set("ns/empty", ""))
}

func setIfVersion(s *suite) {
	w := s.setter()
	try := func(value, ifVersion string) error {
		_, err := w.Set(s.ctx, config.Item{Key: "ns/k", Value: []byte(value)}, ifVersion)
		return err
	}
	if err := try("new", "none"); !errors.Is(err, components.ErrConflict) {
		s.Errorf("set of an absent key if it has a version: %v, want ErrConflict", err)
	}
	s.wantAbsent("ns/k")
	first := s.set("ns/k", "one")
	if err := try("two", first); err != nil {
		s.Errorf("set with the present version: %v", err)
	}
	now := s.get("ns/k")
	if err := try("three", first); !errors.Is(err, components.ErrConflict) {
		s.Errorf("set with an old version: %v, want ErrConflict", err)
	}
	s.wantValue("ns/k", "two", now.Version)
	outside := s.put("ns/k", "outside")
	if err := try("three", now.Version); !errors.Is(err, components.ErrConflict) {
		s.Errorf("set with a version from before an outside change: %v, want ErrConflict", err)
	}
	if err := try("three", outside.Version); err != nil {
		s.Errorf("set with the version of an outside change: %v", err)
	}
}

// setRace lets writers count up: each round one of them wins, so that the count is that of the successes.
func setRace(s *suite) {
	w := s.setter()
	s.set("ns/count", "0")
	var won atomic.Int64
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 10 {
				now, err := s.Driver.Get(s.ctx, "ns/count")
				if err != nil {
					s.Errorf("get: %v", err)
					return
				}
				n, _ := strconv.Atoi(string(now.Value))
				_, err = w.Set(s.ctx, config.Item{Key: "ns/count", Value: []byte(strconv.Itoa(n + 1))}, now.Version)
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, components.ErrConflict) {
					s.Errorf("set: %v", err)
				}
			}
		})
	}
	writers.Wait()
	if got := string(s.get("ns/count").Value); got != fmt.Sprint(won.Load()) || won.Load() == 0 {
		s.Errorf("%d sets succeeded, the count is %s", won.Load(), got)
	}
}

// setKeepsOrRefuses: what an item has besides its value is kept or refused, never lost in silence.
func setKeepsOrRefuses(s *suite) {
	w := s.setter()
	for i, item := range []config.Item{
		{ContentType: "application/x-odd"}, {ContentType: "application/json"}, {Metadata: map[string]string{"who": "me"}},
	} {
		item.Key, item.Value = fmt.Sprintf("ns/item%d", i), []byte("{}")
		_, err := w.Set(s.ctx, item, "")
		if errors.Is(err, components.ErrUnsupported) {
			s.wantAbsent(item.Key)
			continue
		}
		if err != nil {
			s.Errorf("set: %v", err)
			continue
		}
		got := s.get(item.Key)
		if item.ContentType != "" && got.ContentType != item.ContentType || got.Metadata["who"] != item.Metadata["who"] {
			s.Errorf("set %q, %v; get %q, %v", item.ContentType, item.Metadata, got.ContentType, got.Metadata)
		}
	}
}

func remove(s *suite) {
	d, ok := s.Driver.(config.Deleter)
	if !ok {
		s.Skip("the driver does not remove")
	}
	s.put("ns/deep/k", "x")
	s.put("ns/deep/other", "y")
	for _, key := range []string{"ns/deep/k", "ns/deep/k", "ns/never/there", "none/k"} {
		if err := d.Delete(s.ctx, key); err != nil {
			s.Errorf("delete %q: %v", key, err)
		}
		s.wantAbsent(key)
	}
	if got := s.get("ns/deep/other"); string(got.Value) != "y" {
		s.Errorf("the other key is %q", got.Value)
	}
	s.put("ns/deep/k", "back")
}
