//go:build servers

package nacos_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/config/configtest"
	"github.com/outrigger-mesh/outrigger/components/config/nacos"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn/nacostest"
)

const back = 5 * time.Second // within which a watch goes on, as the issue wants it

// options are of a group that no other test has.
func options(t *testing.T, conn nacosconn.Options) nacos.Options {
	defaults, ok := config.Drivers.Defaults("nacos")
	if !ok {
		t.Fatal("there is no driver nacos")
	}
	o := defaults.(nacos.Options)
	o.Nacos, o.Group, o.ListInterval = conn, "t-"+rand.Text(), 300*time.Millisecond
	return o
}

func try(t *testing.T, dir string, shared *components.Shared, o nacos.Options) (config.Driver, error) {
	t.Helper()
	env := components.Env{ID: components.ID{Capability: "config", Name: "default", Driver: "nacos"}, DataDir: dir, Shared: shared,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	return nacos.Open(t.Context(), env, o)
}

func open(t *testing.T, dir string, shared *components.Shared, o nacos.Options) config.Driver {
	t.Helper()
	d, err := try(t, dir, shared, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, d) })
	return d
}

func shut(t *testing.T, d config.Driver) {
	t.Helper()
	if err := d.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func set(t *testing.T, d config.Driver, key, value string) {
	t.Helper()
	if _, err := d.(config.Setter).Set(t.Context(), config.Item{Key: key, Value: []byte(value)}, ""); err != nil {
		t.Fatal(err)
	}
}

// outside is the way past the driver, as operators go.
func outside(t *testing.T, o nacos.Options, d config.Driver) configtest.Backend {
	form := func(full string) url.Values {
		namespace, key, _ := strings.Cut(full, "/")
		return url.Values{"dataId": {nacos.DataID(key)}, "group": {o.Group}, "tenant": {namespace}}
	}
	do := func(method, key string, in url.Values) {
		if got := nacostest.Ask(t, method, "/v1/cs/configs", in); got != "true" {
			t.Errorf("%s %q: %s", method, key, got)
		}
	}
	return configtest.Backend{Driver: d,
		Put: func(key, value string) {
			in := form(key)
			in.Set("content", nacos.ContentOf([]byte(value)))
			do(http.MethodPost, key, in)
		},
		Remove: func(key string) { do(http.MethodDelete, key, form(key)) }}
}

func TestConformance(t *testing.T) {
	configtest.Run(t, func(t *testing.T) configtest.Backend {
		o := options(t, nacostest.Options(t))
		return outside(t, o, open(t, t.TempDir(), nil, o))
	})
}

// TestConformanceOfOneConnection has another component of the process change what is watched.
func TestConformanceOfOneConnection(t *testing.T) {
	configtest.Run(t, func(t *testing.T) configtest.Backend {
		o, dir, shared := options(t, nacostest.Options(t)), t.TempDir(), components.NewShared()
		other := open(t, dir, shared, o)
		return configtest.Backend{Driver: open(t, dir, shared, o),
			Put: func(key, value string) { set(t, other, key, value) },
			Remove: func(key string) {
				if err := other.(config.Deleter).Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}}
	})
}

// told is a watch and what it was told: each change as KEY=VALUE, with a star if it is stale, KEY= if it is gone.
func told(t *testing.T, d config.Driver, sel config.Selection) <-chan string {
	all := make(chan string, 1000)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := d.Watch(ctx, sel, func(changes []config.Change, _ bool) error {
			for _, c := range changes {
				star := ""
				if c.Item.Stale {
					star = "*"
				}
				all <- c.Key + "=" + string(c.Item.Value) + star
			}
			return nil
		})
		if ctx.Err() == nil {
			all <- fmt.Sprint("the watch has ended: ", err)
		}
	}()
	t.Cleanup(func() { stop(); <-ended })
	return all
}

func want(t *testing.T, all <-chan string, what ...string) {
	t.Helper()
	limit := time.After(back)
	for len(what) > 0 {
		select {
		case got := <-all:
			i := slices.Index(what, got)
			if i < 0 {
				t.Fatalf("told %s, want %q", got, what)
			}
			what = slices.Delete(what, i, i+1)
		case <-limit:
			t.Fatalf("not told %q within %s", what, back)
		}
	}
}

func wantStale(t *testing.T, d config.Driver, key, value string) {
	t.Helper()
	item, err := d.Get(t.Context(), key)
	if err != nil || string(item.Value) != value || !item.Stale {
		t.Errorf("get %q: %q, stale %v, %v; want %q, stale", key, item.Value, item.Stale, err, value)
	}
}

// TestSnapshot: what was read is served while no server is there, after a start, too; what was removed is not.
func TestSnapshot(t *testing.T) {
	w, conn := nacostest.NewWire(t)
	o, dir := options(t, conn), t.TempDir()
	direct := o
	direct.Nacos = nacostest.Options(t)
	other := open(t, t.TempDir(), nil, direct)
	for _, key := range []string{"ns/a", "ns/b/c", "ns/removed", "other/a"} {
		set(t, other, key, "1")
	}
	set(t, other, "ns/unread", "1")
	d := open(t, dir, nil, o)
	for _, key := range []string{"ns/a", "ns/b/c", "ns/removed", "other/a", "ns/none"} {
		if _, err := d.Get(t.Context(), key); err != nil && key != "ns/none" {
			t.Fatal(err)
		}
	}
	if err := other.(config.Deleter).Delete(t.Context(), "ns/removed"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(t.Context(), "ns/removed"); !errors.Is(err, components.ErrNotFound) {
		t.Errorf("get of a removed key: %v", err)
	}
	w.Set(wiretest.Cut)
	wantStale(t, d, "ns/a", "1")
	shut(t, d)

	d = open(t, dir, nil, o)
	wantStale(t, d, "ns/a", "1")
	wantStale(t, d, "other/a", "1")
	for _, key := range []string{"ns/removed", "ns/unread", "ns/none"} {
		if item, err := d.Get(t.Context(), key); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("get %q: %q, %v; want ErrUnavailable", key, item.Value, err)
		}
	}
	if err := d.(components.Checker).Check(t.Context()); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("check while no server is there: %v", err)
	}
	all := told(t, d, config.Selection{Keys: []string{"ns/a", "ns/unread"}, Prefixes: []string{"ns/b/"}})
	want(t, all, "ns/a=1*", "ns/b/c=1*")
	set(t, other, "ns/a", "2")
	w.Set(wiretest.Whole)
	want(t, all, "ns/a=2", "ns/b/c=1", "ns/unread=1")
	set(t, other, "ns/b/d", "3")
	want(t, all, "ns/b/d=3")
}

// TestNoSnapshot: without one, or with nothing in it, a start says that the server is away.
func TestNoSnapshot(t *testing.T) {
	w, conn := nacostest.NewWire(t)
	w.Set(wiretest.Cut)
	for _, snapshot := range []bool{false, true} {
		o := options(t, conn)
		o.Snapshot = snapshot
		if d, err := try(t, t.TempDir(), nil, o); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("snapshot %v: %v, %v, want ErrUnavailable", snapshot, d, err)
		}
	}
}

// TestSidecarsDoNotShareAFolder, even with one data folder; what the other has read is found all the same.
func TestSidecarsDoNotShareAFolder(t *testing.T) {
	w, conn := nacostest.NewWire(t)
	o, dir := options(t, conn), t.TempDir()
	one, two := open(t, dir, nil, o), open(t, dir, nil, o)
	set(t, one, "ns/a", "1")
	set(t, two, "ns/b", "2")
	componenttest.Eventually(t, back, func() error {
		files, err := filepath.Glob(filepath.Join(dir, "nacos", "default-*", "*", "*.json"))
		folders := map[string]bool{}
		for _, f := range files {
			folders[filepath.Dir(f)] = true
			if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v", f, info.Mode(), err)
			}
		}
		if len(files) != 2 || len(folders) != 2 {
			return fmt.Errorf("%q, %v; want two files in two folders", files, err)
		}
		return nil
	})
	w.Set(wiretest.Cut)
	wantStale(t, one, "ns/b", "2")
	shut(t, one)
	shut(t, two)
	wantStale(t, open(t, dir, nil, o), "ns/b", "2")
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("in the data folder are %v, %v", files, err)
	}
}

// TestWatchGoesOn when a connection is lost: what has changed meanwhile is told.
func TestWatchGoesOn(t *testing.T) {
	w, conn := nacostest.NewWire(t)
	conn.Heartbeat, conn.Timeout = 300*time.Millisecond, time.Second
	o := options(t, conn)
	d := open(t, t.TempDir(), nil, o)
	direct := o
	direct.Nacos = nacostest.Options(t)
	other := open(t, t.TempDir(), nil, direct)
	set(t, other, "ns/a", "1")
	set(t, other, "ns/b", "1")
	all := told(t, d, config.Selection{Keys: []string{"ns/a", "ns/b", "ns/c"}})
	want(t, all, "ns/a=1", "ns/b=1")
	for i, mode := range []wiretest.Mode{wiretest.Cut, wiretest.Stalled} {
		w.Set(mode)
		componenttest.Eventually(t, back, func() error {
			if d.(components.Checker).Check(t.Context()) == nil {
				return errors.New("the server is still there")
			}
			return nil
		})
		set(t, other, "ns/a", fmt.Sprint("after ", i))
		w.Set(wiretest.Whole)
		want(t, all, fmt.Sprint("ns/a=after ", i))
		set(t, other, "ns/b", fmt.Sprint("pushed ", i)) // it is listened to again
		want(t, all, fmt.Sprint("ns/b=pushed ", i))
	}
	set(t, other, "ns/c", "new")
	want(t, all, "ns/c=new")
}

// TestSetThatHasNoAnswer says that its outcome is not known, and not that it was not done.
func TestSetThatHasNoAnswer(t *testing.T) {
	w, conn := nacostest.NewWire(t)
	conn.Timeout = 2 * time.Second
	d := open(t, t.TempDir(), nil, options(t, conn))
	set(t, d, "ns/a", "1")
	w.Set(wiretest.Stalled)
	if _, err := d.(config.Setter).Set(t.Context(), config.Item{Key: "ns/a", Value: []byte("2")}, ""); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Get(ctx, "ns/b"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's error", err)
	}
}

// TestLimits: what Nacos cannot keep is refused, and nothing is written.
func TestLimits(t *testing.T) {
	o := options(t, nacostest.Options(t))
	d := open(t, t.TempDir(), nil, o)
	long := strings.Repeat("x", 300)
	for key, kind := range map[string]error{"ns/cipher-a": components.ErrInvalid, "ns/" + long: components.ErrInvalid} {
		if _, err := d.(config.Setter).Set(t.Context(), config.Item{Key: key, Value: []byte("1")}, ""); !errors.Is(err, kind) {
			t.Errorf("set %.20q: %v, want %v", key, err, kind)
		}
	}
	for _, kind := range []string{"json", "application/x-a-type-that-is-much-too-long"} {
		if _, err := d.(config.Setter).Set(t.Context(), config.Item{Key: "ns/a", ContentType: kind}, ""); !errors.Is(err, components.ErrUnsupported) {
			t.Errorf("set with type %q: %v, want ErrUnsupported", kind, err)
		}
	}
	largest := strings.Repeat("\xff", config.MaxValue) // the longest of all contents
	set(t, d, "ns/large", largest)
	if item, err := d.Get(t.Context(), "ns/large"); err != nil || string(item.Value) != largest {
		t.Errorf("the largest value comes back with %d bytes, %v", len(item.Value), err)
	}
}
