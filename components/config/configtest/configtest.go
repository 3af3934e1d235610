// Package configtest is what each driver of configuration must do: Run holds one to it.
package configtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/config"
)

// Backend is a driver on an empty store of its own, and the way to that store past the driver, as operators go. Keys are
// NAMESPACE/KEY. A change need not be seen by the driver before Patience has passed.
type Backend struct {
	Driver config.Driver
	Put    func(key, value string)
	Remove func(key string)
	// Patience is how long the suite waits for what must happen; 0: 10 s.
	Patience time.Duration
}

// Harness makes a backend for one test and undoes it by t.Cleanup.
type Harness func(t *testing.T) Backend

// Run runs the suite. It skips what the driver's type does not offer.
func Run(t *testing.T, open Harness) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			if b.Patience == 0 {
				b.Patience = 10 * time.Second
			}
			c.run(&suite{T: t, Backend: b, ctx: t.Context()})
		})
	}
}

var cases = []struct {
	name string
	run  func(*suite)
}{
	{"AbsentKey", absentKey}, {"Values", values}, {"Versions", versions}, {"OutsideChange", outsideChange},
	{"Ownership", ownership}, {"ListOrder", listOrder}, {"ListPages", listPages}, {"ListPrefix", listPrefix},
	{"Set", set}, {"SetIfVersion", setIfVersion}, {"SetRace", setRace}, {"SetKeepsOrRefuses", setKeepsOrRefuses}, {"Delete", remove},
	{"WatchBegins", watchBegins}, {"WatchChanges", watchChanges}, {"WatchSelects", watchSelects}, {"WatchLastValue", watchLastValue},
	{"WatchVersion", watchVersion}, {"WatchReturns", watchReturns}, {"WatchEnds", watchEnds}, {"WatchReportFails", watchReportFails},
	{"WatchSlowReader", watchSlowReader}, {"WatchMany", watchMany}, {"Close", closing},
}

type suite struct {
	*testing.T
	Backend
	ctx context.Context
}

func (s *suite) eventually(holds func() error) {
	s.Helper()
	componenttest.Eventually(s.T, s.Patience, holds)
}

func (s *suite) get(key string) config.Item {
	s.Helper()
	item, err := s.Driver.Get(s.ctx, key)
	if err != nil {
		s.Fatalf("get %q: %v", key, err)
	}
	return item
}

// put changes a value from outside and waits until the driver sees it.
func (s *suite) put(key, value string) config.Item {
	s.Helper()
	s.Put(key, value)
	var item config.Item
	s.eventually(func() (err error) {
		if item, err = s.Driver.Get(s.ctx, key); err != nil {
			return fmt.Errorf("get %q after it was put: %w", key, err)
		}
		if string(item.Value) != value {
			return fmt.Errorf("get %q answers %s, not %s", key, brief(item.Value), brief([]byte(value)))
		}
		return nil
	})
	return item
}

func (s *suite) wantAbsent(key string) {
	s.Helper()
	if item, err := s.Driver.Get(s.ctx, key); !errors.Is(err, components.ErrNotFound) {
		s.Errorf("get %q: %s, %v; want ErrNotFound", key, brief(item.Value), err)
	}
}

func brief(value []byte) string {
	if len(value) > 40 {
		return fmt.Sprintf("%q... (%d bytes)", value[:40], len(value))
	}
	return fmt.Sprintf("%q", value)
}

func absentKey(s *suite) {
	s.wantAbsent("ns/none")
	s.wantAbsent("ns/none/deeper")
	s.put("ns/there", "x")
	s.wantAbsent("ns/the")
	s.wantAbsent("other/there")
}

func values(s *suite) {
	for name, value := range map[string]string{
		"ns/text": "on", "ns/empty": "", "ns/binary": "\x00\xff\x01\r\n", "ns/large": string(bytes.Repeat([]byte("0123456789abcdef"), 1<<13)),
		"ns/deep/er/key.json": `{"a":1}`, "other/text": "off", "ns/ümlaut": "ü", "ns/with space": " ",
	} {
		item := s.put(name, value)
		if item.Key != name || item.Version == "" || item.Stale {
			s.Errorf("get %q answers key %q, version %q, stale %v", name, item.Key, item.Version, item.Stale)
		}
	}
	if got := s.get("ns/text"); string(got.Value) != "on" {
		s.Errorf("ns/text is %q after other keys were put", got.Value)
	}
}

func versions(s *suite) {
	first := s.put("ns/k", "one")
	if again := s.get("ns/k"); again.Version != first.Version {
		s.Errorf("the version changed from %q to %q, the value did not", first.Version, again.Version)
	}
	second := s.put("ns/k", "two")
	if second.Version == first.Version {
		s.Errorf("two values have the version %q", first.Version)
	}
	if back := s.put("ns/k", "one"); back.Version == first.Version || back.Version == second.Version {
		s.Errorf("the versions are %q, %q, %q: they went back with the value", first.Version, second.Version, back.Version)
	}
}

func outsideChange(s *suite) {
	s.put("ns/k", "before")
	s.put("ns/k", "after")
	s.Remove("ns/k")
	s.eventually(func() error {
		if _, err := s.Driver.Get(s.ctx, "ns/k"); !errors.Is(err, components.ErrNotFound) {
			return fmt.Errorf("get after it was removed: %v; want ErrNotFound", err)
		}
		return nil
	})
	s.put("ns/k", "again")
}

func ownership(s *suite) {
	item := s.put("ns/k", "value")
	copy(item.Value, "XXXXX")
	if got := s.get("ns/k"); string(got.Value) != "value" {
		s.Errorf("a caller wrote into the answer of get, and now get answers %q", got.Value)
	}
	list, err := s.Driver.List(s.ctx, "ns/", "", 10)
	if err != nil || len(list) != 1 {
		s.Fatalf("list: %d items, %v", len(list), err)
	}
	copy(list[0].Value, "XXXXX")
	if got := s.get("ns/k"); string(got.Value) != "value" {
		s.Errorf("a caller wrote into the answer of list, and now get answers %q", got.Value)
	}
}
