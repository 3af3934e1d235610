package mesh_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

func addresses(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("i%d:1", i))
	}
	return all
}

// A push that drops all instances, or most, is held; what cannot be connected is gone at once, the rest when it stays so, or not at all when they
// come back.
func TestDropsAreHeld(t *testing.T) {
	for _, c := range []struct{ had, has, held int }{{1, 0, 1}, {10, 0, 10}, {10, 4, 6}, {10, 5, 0}, {3, 1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			s.set(nil, addresses(c.had)...)
			e := router(t, s)
			e.Directory.Hold = 30 * time.Second
			state := func() (instances, held int) {
				synctest.Wait()
				all := e.Directory.Services()
				return all[0].Instances, all[0].Held
			}
			if _, err := plan(e, mesh.Request{}); err != nil {
				t.Fatal(err)
			}
			push := func(n int) {
				s.mu.Lock()
				s.all = []mesh.Instance{}
				for _, a := range addresses(n) {
					s.all = append(s.all, mesh.Instance{Address: a, Weight: 100})
				}
				s.mu.Unlock()
				s.poke()
			}
			push(c.has)
			if n, held := state(); n != c.has || held != c.held {
				t.Fatalf("%d of %d are left: %d instances, %d held", c.has, c.had, n, held)
			}
			if c.held == 0 {
				return
			}
			push(c.had)
			if n, held := state(); n != c.had || held != 0 {
				t.Fatalf("after they came back: %d instances, %d held", n, held)
			}
			push(c.has)
			time.Sleep(29 * time.Second)
			p, err := plan(e, mesh.Request{})
			if err != nil {
				t.Fatalf("before it is confirmed: %v", err)
			}
			a, _ := p.Next()
			a.Report(mesh.Unreachable)
			_, held := state()
			var at int
			fmt.Sscanf(a.Instance().Address, "i%d:1", &at)
			if gone := at >= c.has; gone != (held == c.held-1) {
				t.Errorf("%s cannot be connected: %d are held of %d", a.Instance().Address, held, c.held)
			}
			time.Sleep(2 * time.Second)
			if n, held := state(); n != c.has || held != 0 {
				t.Errorf("when it is confirmed: %d instances, %d held", n, held)
			}
			if _, err := plan(e, mesh.Request{}); (err == nil) != (c.has > 0) {
				t.Errorf("when it is confirmed: %v", err)
			}
		})
	}
}

// A sidecar that starts while the registry is away uses what the one before it knew.
func TestRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known.jsonl")
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.all = []mesh.Instance{{Address: "a:1", Weight: 7, Labels: mesh.LabelsOf(map[string]string{"version": "v1"}), Identity: "spiffe://mesh/shop/stock"}}
		e := router(t, s)
		if err := e.Directory.Remember(path); err != nil {
			t.Fatal(err)
		}
		if _, err := plan(e, mesh.Request{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
	})
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, away := range []error{errors.New("connection refused"), nil} { // nil: it says nothing
		synctest.Test(t, func(t *testing.T) {
			if err := os.WriteFile(path, written, 0o600); err != nil {
				t.Fatal(err)
			}
			s := newSource()
			s.err = away
			d := mesh.NewDirectory(s, slog.New(slog.DiscardHandler))
			t.Cleanup(d.Close)
			if err := d.Remember(path); err != nil {
				t.Fatal(err)
			}
			e := &mesh.Router{Directory: d, MaxHops: 8}
			p, err := plan(e, mesh.Request{})
			if err != nil {
				t.Fatal(err)
			}
			a, err := p.Next()
			if in := a.Instance(); err != nil || in.Address != "a:1" || in.Weight != 7 || in.Labels.Get("version") != "v1" || in.Identity == "" {
				t.Errorf("got %+v, %v", in, err)
			}
			a.Report(mesh.Answered)
			if all := d.Services(); !all[0].Stale {
				t.Error("it is not said that this is from the disk")
			}
			s.set(nil, "b:1")
			time.Sleep(5 * time.Second)
			if all := d.Services(); all[0].Stale || all[0].Held != 0 || all[0].Instances != 1 {
				t.Errorf("after the registry has spoken: %+v", all[0])
			}
		})
	}
}

// TestOnlyDropsOfManyAreAlarming: a service of one instance whose sidecar ends in order is no reason to warn anybody.
func TestOnlyDropsOfManyAreAlarming(t *testing.T) {
	for had, warns := range map[int]bool{1: false, 3: false, 4: true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			s.set(nil, addresses(had)...)
			var log bytes.Buffer // read once all goroutines wait
			d := mesh.NewDirectory(s, slog.New(slog.NewTextHandler(&log, nil)))
			t.Cleanup(d.Close)
			d.Hold = 30 * time.Second
			if _, err := plan(&mesh.Router{Directory: d, MaxHops: 8}, mesh.Request{}); err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			s.all = []mesh.Instance{}
			s.mu.Unlock()
			s.poke()
			time.Sleep(time.Minute)
			synctest.Wait()
			said := log.String()
			if !strings.Contains(said, "drops most instances") || !strings.Contains(said, "it is confirmed") || strings.Contains(said, "WARN") != warns {
				t.Errorf("of %d it is logged, want a warning: %v\n%s", had, warns, said)
			}
		})
	}
}
