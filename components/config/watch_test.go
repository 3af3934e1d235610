package config_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
)

var sel = config.Selection{Keys: []string{"k", "none"}, Prefixes: []string{"p/"}}

func report(t *testing.T, f *feed, whole bool, changes ...config.Change) {
	t.Helper()
	if err := f.report(changes, whole); err != nil {
		t.Errorf("report: %v", err)
	}
}

func gone(key string) config.Change { return config.Change{Key: key, Deleted: true} }

func TestWatchTellsThePresentThenChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, _ := front(d)
		w := watch(t, c, sel, nil)
		f := <-d.feeds
		report(t, f, true, d.put("shop/p/b", "2", "1"), d.put("shop/k", "1", "1"), d.put("shop/p/a", "3", "1"))
		w.want(t, "initial, k=1, none gone, p/a=3, p/b=2")
		report(t, f, false, d.put("shop/k", "4", "2"), gone("shop/p/a"), d.put("shop/none", "5", "1"))
		w.want(t, "k=4, none=5, p/a gone")
		report(t, f, false, d.put("shop/k", "4", "2"), gone("shop/p/never"))
		report(t, f, false, gone("shop/none"))
		w.want(t, "none gone")
		w.stop()
		if err := <-w.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ends with %v, want Canceled", err)
		}
	})
}

func TestWatchOfNothingIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, _ := front(d)
		w := watch(t, c, config.Selection{Prefixes: []string{""}}, nil)
		report(t, <-d.feeds, true)
		w.want(t, "initial")
		w.stop()
		<-w.ended
	})
}

// TestWholeStateAgain: a driver that may have missed changes says all again, and only what differs is sent.
func TestWholeStateAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, _ := front(d)
		w := watch(t, c, sel, nil)
		f := <-d.feeds
		a, b, k := d.put("shop/p/a", "1", "1"), d.put("shop/p/b", "1", "1"), d.put("shop/k", "1", "1")
		report(t, f, true, a, b, k)
		w.want(t, "initial, k=1, none gone, p/a=1, p/b=1")
		report(t, f, true, a, d.put("shop/p/c", "2", "1"))
		w.want(t, "k gone, p/b gone, p/c=2")
		w.stop()
		<-w.ended
	})
}

func TestReaderThatDoesNotReadCostsOneChangeAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, _ := front(d)
		release := make(chan struct{})
		w := watch(t, c, sel, func() { <-release })
		first := <-d.feeds // before the other begins: which is whose is not told
		other := watch(t, c, sel, nil)
		second := <-d.feeds
		for _, f := range []*feed{first, second} {
			report(t, f, true, d.put("shop/k", "0", "0"))
		}
		w.want(t, "initial, k=0, none gone")
		other.want(t, "initial, k=0, none gone")
		for i := 1; i <= 5000; i++ {
			report(t, first, false, d.put("shop/k", fmt.Sprint(i), fmt.Sprint(i)))
			report(t, second, false, d.put("shop/k", fmt.Sprint(i), fmt.Sprint(i)))
		}
		report(t, first, false, d.put("shop/p/a", "x", "1"))
		report(t, first, false, gone("shop/p/a"))
		synctest.Wait()
		if n := len(w.sent); n != 0 {
			t.Errorf("%d messages were sent to a reader that does not read", n)
		}
		last := ""
		for len(other.sent) > 0 {
			last = <-other.sent
		}
		if last != "k=5000" {
			t.Errorf("the other reader was told %q last", last)
		}
		close(release)
		w.want(t, "k=5000")
		synctest.Wait()
		if n := len(w.sent); n != 0 {
			t.Errorf("%d messages more than one for the key", n)
		}
		w.stop()
		other.stop()
		<-w.ended
		<-other.ended
	})
}

func TestWatchEndsWithReloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, comp := front(d)
		release := make(chan struct{})
		w := watch(t, c, sel, func() { <-release })
		report(t, <-d.feeds, true)
		synctest.Wait()
		retired := comp.Set(newFake())
		<-retired // though the reader does not read
		close(release)
		err := <-w.ended
		var detail *components.Detail
		if !errors.Is(err, components.ErrUnavailable) || !errors.As(err, &detail) || detail.Reason != components.ReasonReloaded {
			t.Errorf("%v, want ErrUnavailable with reason RELOADED", err)
		}
	})
}

// TestReloadBeforeTheFirstReport ends the watch as well, and no stale values are sent: there is a driver that can be asked.
func TestReloadBeforeTheFirstReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, comp := front(d)
		d.put("shop/k", "1", "1")
		if _, err := c.Get(t.Context(), app, "k"); err != nil {
			t.Fatal(err)
		}
		w := watch(t, c, sel, nil)
		<-d.feeds
		comp.Set(newFake())
		err := <-w.ended
		var detail *components.Detail
		if !errors.As(err, &detail) || detail.Reason != components.ReasonReloaded || len(w.sent) != 0 {
			t.Errorf("%v and %d messages, want reason RELOADED and none", err, len(w.sent))
		}
	})
}

func TestWatchEndsWhenSendFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, comp := front(d)
		away := errors.New("the client has gone")
		ended := make(chan error, 1)
		go func() {
			ended <- c.Watch(t.Context(), app, sel, func(config.Message) error { return away })
		}()
		report(t, <-d.feeds, true)
		if err := <-ended; !errors.Is(err, away) {
			t.Errorf("%v, want what send answered", err)
		}
		<-comp.Clear(errors.New("end")) // the driver's call has ended too
	})
}

func TestWatchThatTheDriverEnds(t *testing.T) {
	for name, want := range map[string]error{"lost": components.ErrUnavailable, "denied": components.ErrDenied, "without a word": nil} {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			c, _ := front(d)
			w := watch(t, c, sel, nil)
			f := <-d.feeds
			report(t, f, true)
			f.end <- want
			if want == nil {
				want = components.ErrUnavailable
			}
			if err := <-w.ended; !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
			w.want(t, "initial, k gone, none gone")
		})
	}
}

// TestWatchWhileAway: the last known values come at once, marked as stale; what is true follows when the back end is there.
func TestWatchWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, comp := front(d)
		d.put("shop/k", "1", "1")
		d.put("shop/p/a", "2", "1")
		for _, key := range []string{"k", "p/a"} {
			if _, err := c.Get(t.Context(), app, key); err != nil {
				t.Fatal(err)
			}
		}
		comp.Clear(errors.New("no route to host"))
		if err := c.Watch(t.Context(), app, config.Selection{Keys: []string{"none"}}, nil); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("watch of what is not known: %v, want ErrUnavailable", err)
		}
		w := watch(t, c, sel, nil)
		w.want(t, "initial, k=1 stale, p/a=2 stale")
		d.fail(components.ErrUnavailable)
		comp.Set(d)
		time.Sleep(5 * time.Second)
		d.fail(nil)
		report(t, <-d.feeds, true, d.put("shop/k", "1", "1"))
		w.want(t, "k=1, none gone, p/a gone")
		w.stop()
		<-w.ended
	})
}

func TestLargeChangesAreSentInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, _ := front(d)
		w := watch(t, c, config.Selection{Prefixes: []string{"p/"}}, nil)
		f := <-d.feeds
		report(t, f, true)
		w.want(t, "initial")
		var changes []config.Change
		for i := range 4 {
			changes = append(changes, d.put(fmt.Sprint("shop/p/", i), strings.Repeat("x", config.PageBytes/2-100), "1"))
		}
		report(t, f, false, changes...)
		synctest.Wait()
		if n := len(w.sent); n != 2 {
			t.Errorf("%d messages, want 2", n)
		}
		report(t, f, false, d.put("shop/p/a", strings.Repeat("x", config.PageBytes-1), "2"), d.put("shop/p/b", strings.Repeat("x", config.MaxValue), "2"))
		synctest.Wait()
		if n := len(w.sent); n != 4 {
			t.Errorf("%d messages, want 2 more: a large value travels alone", n)
		}
		w.stop()
		<-w.ended
	})
}

// TestLargeInitialStateIsSentInParts: what is there may be more than a message can hold. What changes before its part is sent is
// sent in its newest value or not at all; what changes after follows the initial state.
func TestLargeInitialStateIsSentInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, _ := front(d)
		release := make(chan struct{})
		w := watch(t, c, sel, func() { <-release })
		f := <-d.feeds
		large := strings.Repeat("x", config.PageBytes)
		report(t, f, true, d.put("shop/k", "1", "1"), d.put("shop/p/a", large, "1"), d.put("shop/p/b", "1", "1"), d.put("shop/p/c", large, "1"))
		w.want(t, "initial, more, k=1, none gone")
		report(t, f, false, d.put("shop/k", "2", "2"), gone("shop/p/c"), d.put("shop/p/b", "2", "2"), d.put("shop/p/d", "1", "1"))
		close(release)
		w.want(t, "initial, more, p/a="+large)
		w.want(t, "initial, p/b=2")
		w.want(t, "k=2, p/d=1")
		w.stop()
		<-w.ended
	})
}

// TestInitialStateEnds though what is left of it has gone meanwhile.
func TestInitialStateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, _ := front(d)
		release := make(chan struct{})
		w := watch(t, c, config.Selection{Prefixes: []string{""}}, func() { <-release })
		f := <-d.feeds
		report(t, f, true, d.put("shop/a", "1", "1"), d.put("shop/b", strings.Repeat("x", config.PageBytes), "1"))
		w.want(t, "initial, more, a=1")
		report(t, f, false, gone("shop/b"))
		close(release)
		w.want(t, "initial")
		w.stop()
		<-w.ended
	})
}

// TestKeysCountToo: many small values are many names.
func TestKeysCountToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		c, _ := front(d)
		const keys = 4000
		long, sizes := strings.Repeat("k", 200), []int(nil)
		var all []config.Change
		for i := range keys {
			all = append(all, d.put(fmt.Sprintf("shop/%s%d", long, i), "", "1"))
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() { report(t, <-d.feeds, true, all...) }()
		_ = c.Watch(ctx, app, config.Selection{Prefixes: []string{""}}, func(m config.Message) error {
			if sizes = append(sizes, len(m.Changes)); !m.More {
				stop()
			}
			return nil
		})
		total := 0
		for _, n := range sizes {
			if total += n; n*2*len(long) > config.PageBytes {
				t.Errorf("%d keys of %d bytes in a message", n, len(long))
			}
		}
		if total != keys {
			t.Errorf("%d keys, want %d", total, keys)
		}
	})
}
