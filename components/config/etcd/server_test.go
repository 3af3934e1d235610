//go:build servers

package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/config/configtest"
	"github.com/outrigger-mesh/outrigger/components/config/etcd"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, prefix string, addresses ...string) config.Driver {
	t.Helper()
	o := etcd.Options{Etcd: etcdtest.Options(t), Prefix: prefix}
	if len(addresses) > 0 {
		o.Etcd.Addresses = addresses
	}
	d, err := etcd.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { componenttest.Close(t, d) })
	return d
}

func backend(t *testing.T) configtest.Backend {
	prefix := etcdtest.Prefix()
	client := etcdtest.Client(t, etcdtest.Options(t))
	return configtest.Backend{Driver: open(t, prefix),
		Put: func(key, value string) {
			if _, err := client.Put(t.Context(), prefix+key, value); err != nil {
				t.Error(err)
			}
		},
		Remove: func(key string) {
			if _, err := client.Delete(t.Context(), prefix+key); err != nil {
				t.Error(err)
			}
		}}
}

func TestConformance(t *testing.T) { configtest.Run(t, backend) }

// watched is what a watch has been told.
type watched struct {
	changes []config.Change
	initial bool
}

func watch(t *testing.T, d config.Driver, sel config.Selection) (told chan watched) {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	told = make(chan watched, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- d.Watch(ctx, sel, func(changes []config.Change, initial bool) error {
			told <- watched{changes, initial}
			return nil
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch has ended: %v", err)
		}
	})
	return told
}

func next(t *testing.T, told chan watched) watched {
	t.Helper()
	select {
	case w := <-told:
		return w
	case <-time.After(15 * time.Second):
		t.Fatal("nothing is told")
		return watched{}
	}
}

// TestAWatchGoesOn where it was when the connection is lost, and with all that is there when etcd has forgotten what happened since.
func TestAWatchGoesOn(t *testing.T) {
	prefix, client := etcdtest.Prefix(), etcdtest.Client(t, etcdtest.Options(t))
	wire := wiretest.New(t, etcdtest.Options(t).Addresses[0])
	d := open(t, prefix, wire.Addr())
	put := func(key, value string) int64 {
		t.Helper()
		done, err := client.Put(t.Context(), prefix+key, value)
		if err != nil {
			t.Fatal(err)
		}
		return done.Header.Revision
	}
	put("ns/a", "1")
	put("ns/b", "1")
	told := watch(t, d, config.Selection{Prefixes: []string{"ns/"}})
	if w := next(t, told); !w.initial || len(w.changes) != 2 {
		t.Fatalf("told %+v first", w)
	}

	wire.Set(wiretest.Cut)
	put("ns/a", "2")
	put("ns/a", "3")
	wire.Set(wiretest.Whole)
	for last := ""; last != "3"; {
		w := next(t, told)
		if w.initial {
			t.Fatal("all is told again, though etcd knew what had happened")
		}
		for _, c := range w.changes {
			if c.Key != "ns/a" || string(c.Item.Value) <= last {
				t.Fatalf("told %+v after %s", c, last)
			}
			last = string(c.Item.Value)
		}
	}

	wire.Set(wiretest.Cut)
	if _, err := client.Delete(t.Context(), prefix+"ns/b"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), put("ns/a", "4")); err != nil {
		t.Fatal(err)
	}
	wire.Set(wiretest.Whole)
	if w := next(t, told); !w.initial || len(w.changes) != 1 || string(w.changes[0].Item.Value) != "4" {
		t.Errorf("told %+v, want all that is there", w)
	}
	put("ns/a", "5")
	if w := next(t, told); w.initial || string(w.changes[0].Item.Value) != "5" {
		t.Errorf("told %+v then", w)
	}
}

// TestWhatOperatorsWrite is served as it is, and a header that is none is damage, of its key alone.
func TestWhatOperatorsWrite(t *testing.T) {
	prefix, client := etcdtest.Prefix(), etcdtest.Client(t, etcdtest.Options(t))
	d := open(t, prefix)
	if _, err := client.Put(t.Context(), prefix+"ns/bad", "\x00outrigger 1 {no header"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(t.Context(), "ns/bad"); !errors.Is(err, components.ErrDamaged) || !strings.Contains(err.Error(), "ns/bad") {
		t.Errorf("%v, want that ns/bad is damaged", err)
	}
	for _, value := range []string{"\x00outrigger 1 {}\nx", "\x00outrigger 1 "} {
		item := config.Item{Key: "ns/k", Value: []byte(value)}
		if _, err := d.(config.Setter).Set(t.Context(), item, ""); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Get(t.Context(), "ns/k"); err != nil || string(got.Value) != value {
			t.Errorf("set %q, got %q, %v", value, got.Value, err)
		}
	}
}

// TestAPageOfLargeValues ends when there is enough, and is not read in one piece.
func TestAPageOfLargeValues(t *testing.T) {
	d := open(t, etcdtest.Prefix())
	large := bytes.Repeat([]byte("x"), config.PageBytes)
	for i := range 20 {
		if _, err := d.(config.Setter).Set(t.Context(), config.Item{Key: fmt.Sprintf("ns/%02d", i), Value: large[:len(large)/(1+3*(i%2))]}, ""); err != nil {
			t.Fatal(err)
		}
	}
	seen, after := 0, ""
	for {
		items, err := d.List(t.Context(), "ns/", after, 1001)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, item := range items {
			if size >= config.PageBytes {
				t.Fatalf("a page goes on after %d bytes", size)
			}
			size += len(item.Value)
			seen++
			after = item.Key
		}
		if len(items) == 0 {
			break
		}
	}
	if seen != 20 {
		t.Errorf("the pages have %d items", seen)
	}
}

// TestWhatIsHeardLateUndoesNothing: a server that was frozen does what it was asked for when it goes on, though others have written since.
func TestWhatIsHeardLateUndoesNothing(t *testing.T) {
	prefix, wire := etcdtest.Prefix(), wiretest.New(t, etcdtest.Options(t).Addresses[0])
	far, near := open(t, prefix), open(t, prefix, wire.Addr())
	set := func(d config.Driver, ctx context.Context, value string) error {
		_, err := d.(config.Setter).Set(ctx, config.Item{Key: "ns/k", Value: []byte(value)}, "")
		return err
	}
	late := 0
	for i := range 40 {
		old, newer := fmt.Sprint("old ", i), fmt.Sprint("new ", i)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- set(near, ctx, old) }()
		time.Sleep(time.Duration(i%8) * 250 * time.Microsecond)
		wire.Set(wiretest.Stalled)
		err := <-done
		cancel()
		if err := set(far, t.Context(), newer); err != nil {
			t.Fatal(err)
		}
		wire.Set(wiretest.Whole)
		componenttest.Eventually(t, 10*time.Second, func() error { _, err := near.Get(t.Context(), "ns/none"); return ignore(err) })
		time.Sleep(20 * time.Millisecond) // for what was on the wire
		got, failed := far.Get(t.Context(), "ns/k")
		if failed != nil || string(got.Value) != newer {
			t.Fatalf("%q is there, %v; %q was written before, with %v", got.Value, failed, old, err)
		}
		if err != nil {
			late++
		}
	}
	if late < 10 {
		t.Errorf("%d of 40 writes were late: that shows nothing", late)
	}
}

func ignore(err error) error {
	if errors.Is(err, components.ErrNotFound) {
		return nil
	}
	return err
}
