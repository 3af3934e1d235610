// Package secrettest is what each driver of secrets must do: Run holds one to it.
package secrettest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/secret"
)

// Backend is a driver on an empty store of its own, and the way to that store past the driver.
type Backend struct {
	Driver secret.Driver
	Put    func(key, value string)
	Remove func(key string)
	// Patience is how long a change may take to be seen; 0: 10 s.
	Patience time.Duration
}

// Harness makes a backend for one test and undoes it by t.Cleanup.
type Harness func(t *testing.T) Backend

// Run runs the suite. Keys are such as every back end takes: letters, digits, "_" and "-".
func Run(t *testing.T, open Harness) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			if b.Patience == 0 {
				b.Patience = 10 * time.Second
			}
			c.run(&suite{T: t, Backend: b})
		})
	}
}

var cases = []struct {
	name string
	run  func(*suite)
}{
	{"AbsentKey", absentKey}, {"Values", values}, {"Versions", versions}, {"Rotation", rotation}, {"Ownership", ownership},
	{"ErrorsTellNothing", errorsTellNothing}, {"VersionsTellNothing", versionsTellNothing}, {"ListOrder", listOrder},
	{"ListPages", listPages}, {"ListPrefix", listPrefix}, {"AtOnce", atOnce}, {"Close", closing},
}

type suite struct {
	*testing.T
	Backend
}

// put stores a secret and waits until the driver has it.
func (s *suite) put(key, value string) secret.Value {
	s.Helper()
	s.Put(key, value)
	var got secret.Value
	var err error
	for end := time.Now().Add(s.Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got, err = s.Driver.Get(s.Context(), key); err == nil && string(got.Data) == value {
			return got
		}
	}
	s.Fatalf("get %q after it was put: %d bytes of another value, %v", key, len(got.Data), err)
	return got
}

func (s *suite) wantAbsent(key string) {
	s.Helper()
	if _, err := s.Driver.Get(s.Context(), key); !errors.Is(err, components.ErrNotFound) {
		s.Errorf("get %q: %v, want ErrNotFound", key, err)
	}
}

func absentKey(s *suite) {
	s.wantAbsent("none")
	s.put("there", "x")
	s.wantAbsent("the")
	s.wantAbsent("there2")
	s.wantAbsent("THERE")
}

func values(s *suite) {
	all := map[string]string{"a": "one", "b-c_D9": "two words", "empty": "", "spaces": "  x  ", "unicode": "ü", "long": strings.Repeat("k", 8<<10)}
	for key, value := range all {
		s.put(key, value)
	}
	for key, value := range all {
		if got, err := s.Driver.Get(s.Context(), key); err != nil || string(got.Data) != value {
			s.Errorf("get %q: not its value, %v", key, err)
		}
	}
}

func versions(s *suite) {
	first := s.put("k", "one")
	if again, err := s.Driver.Get(s.Context(), "k"); err != nil || again.Version != first.Version {
		s.Errorf("the version changed from %q to %q, the value did not (%v)", first.Version, again.Version, err)
	}
	if second := s.put("k", "two"); second.Version == first.Version && first.Version != "" {
		s.Errorf("two values have the version %q", first.Version)
	}
}

func rotation(s *suite) {
	s.put("k", "old")
	s.put("k", "new")
	s.Remove("k")
	for end := time.Now().Add(s.Patience); ; time.Sleep(5 * time.Millisecond) {
		_, err := s.Driver.Get(s.Context(), "k")
		if errors.Is(err, components.ErrNotFound) {
			break
		}
		if time.Now().After(end) {
			s.Fatalf("get after it was removed: %v, want ErrNotFound", err)
		}
	}
	s.put("k", "back")
}

func ownership(s *suite) {
	got := s.put("k", "value")
	copy(got.Data, "XXXXX")
	if again, err := s.Driver.Get(s.Context(), "k"); err != nil || string(again.Data) != "value" {
		s.Errorf("a caller wrote into the answer of get, and now get answers something else (%v)", err)
	}
}

const hidden = "correct-horse-battery"

func errorsTellNothing(s *suite) {
	s.put("k", hidden)
	for _, key := range []string{"none", "k/deeper", "k ", "../k", "", "."} {
		if _, err := s.Driver.Get(s.Context(), key); err == nil {
			s.Errorf("get %q answers a value", key)
		} else if strings.Contains(fmt.Sprintf("%v %+v", err, err), hidden) {
			s.Errorf("the error for %q has a secret in it", key)
		}
	}
	got, err := s.Driver.Get(s.Context(), "k")
	if err != nil || strings.Contains(fmt.Sprintf("%v %+v %#v %s %q %x", got, got, got, got, got, got), hidden) {
		s.Errorf("the value shows when it is printed (%v)", err)
	}
}

func versionsTellNothing(s *suite) {
	s.put("k", hidden)
	if got, err := s.Driver.Get(s.Context(), "k"); err != nil || strings.Contains(got.Version, hidden) {
		s.Errorf("the version has the value in it (%v)", err)
	}
}

func (s *suite) wantList(prefix, after string, limit int, want ...string) {
	s.Helper()
	got, err := s.Driver.List(s.Context(), prefix, after, limit)
	if err != nil || !slices.Equal(got, want) {
		s.Errorf("list %q after %q, up to %d: %q, %v; want %q", prefix, after, limit, got, err, want)
	}
}

func listOrder(s *suite) {
	s.wantList("", "", 10)
	for _, key := range []string{"b", "a", "C", "a_b", "a-b", "ab"} {
		s.put(key, "value")
	}
	s.wantList("", "", 10, "C", "a", "a-b", "a_b", "ab", "b")
}

func listPages(s *suite) {
	var all, got []string
	for i := range 25 {
		key := fmt.Sprintf("k%02d", i)
		s.put(key, "value")
		all = append(all, key)
	}
	for after := ""; len(got) <= len(all); after = got[len(got)-1] {
		page, err := s.Driver.List(s.Context(), "", after, 10)
		if err != nil || len(page) > 10 {
			s.Fatalf("%d keys on a page of 10, %v", len(page), err)
		}
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
	}
	if !slices.Equal(got, all) {
		s.Errorf("pages of 10 come to %q", got)
	}
	s.wantList("", "k23x", 10, "k24")
	s.wantList("", "k24", 10)
}

func listPrefix(s *suite) {
	for _, key := range []string{"db", "db-user", "db_password", "d", "other"} {
		s.put(key, "value")
	}
	s.wantList("db", "", 10, "db", "db-user", "db_password")
	s.wantList("db", "db", 10, "db-user", "db_password")
	s.wantList("none", "", 10)
}

func atOnce(s *suite) {
	for i := range 10 {
		s.put(fmt.Sprint("k", i), fmt.Sprint("v", i))
	}
	var readers sync.WaitGroup
	for i := range 10 {
		readers.Go(func() {
			for range 20 {
				got, err := s.Driver.Get(s.Context(), fmt.Sprint("k", i))
				if err != nil || string(got.Data) != fmt.Sprint("v", i) {
					s.Errorf("get k%d among others: another value, %v", i, err)
				}
			}
		})
	}
	readers.Wait()
}

func closing(s *suite) {
	c, ok := s.Driver.(components.Closer)
	if !ok {
		s.Skip("the driver holds nothing")
	}
	for range 2 {
		if err := c.Close(s.Context()); err != nil {
			s.Errorf("close: %v", err)
		}
	}
}
