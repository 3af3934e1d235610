package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// reader is a watch and its reports, as text.
type reader struct {
	stop    context.CancelFunc
	reports chan string
	ended   chan error
}

func watch(t *testing.T, r *registry.Registry) *reader {
	ctx, stop := context.WithCancel(t.Context())
	w := &reader{stop, make(chan string, 100), make(chan error, 1)}
	go func() {
		w.ended <- r.Watch(ctx, stock, func(all []registry.Record) error {
			var parts []string
			for _, r := range all {
				parts = append(parts, fmt.Sprint(r.Address, "/", r.Weight))
			}
			w.reports <- strings.Join(parts, " ")
			return nil
		})
	}()
	t.Cleanup(stop)
	return w
}

func (w *reader) want(t *testing.T, want string) {
	t.Helper()
	if got := <-w.reports; got != want {
		t.Errorf("reported is %q, want %q", got, want)
	}
}

func (w *reader) wantQuiet(t *testing.T) {
	t.Helper()
	synctest.Wait()
	if n := len(w.reports); n != 0 {
		t.Errorf("%d reports more, the first is %q", n, <-w.reports)
	}
}

func weighing(address string, weight int) registry.Record {
	r := at(address)
	r.Weight = weight
	return r
}

func TestWatchIsSortedWithoutRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r, _ := front(t, d)
		w := watch(t, r)
		f := <-d.feeds
		foreign := at("10.0.0.7:1")
		foreign.Name = "other"
		all := []registry.Record{weighing("10.0.0.2:1", 2), weighing("10.0.0.1:1", 5), weighing("10.0.0.1:1", 3), at("no address"), foreign, {}}
		must(t, f.report(all))
		w.want(t, "10.0.0.1:1/3 10.0.0.2:1/2")
		must(t, f.report([]registry.Record{all[2], all[0], all[1]}))
		w.wantQuiet(t)
		must(t, f.report(nil))
		w.want(t, "")
		w.stop()
		if err := <-w.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ends with %v, want Canceled", err)
		}
	})
}

func TestWatchRidesOutReloadsAndOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newFake(), newFake()
		r, c := front(t, first)
		w := watch(t, r)
		must(t, (<-first.feeds).report([]registry.Record{at("10.0.0.1:1")}))
		w.want(t, "10.0.0.1:1/100")
		c.Set(second)
		f := <-second.feeds
		must(t, f.report([]registry.Record{at("10.0.0.1:1")}))
		w.wantQuiet(t)
		second.fail(components.ErrUnavailable)
		f.end <- components.ErrUnavailable
		time.Sleep(time.Minute)
		second.fail(nil)
		f = <-second.feeds
		must(t, f.report([]registry.Record{at("10.0.0.2:1")}))
		w.want(t, "10.0.0.2:1/100")
		<-c.Clear(errors.New("no route to host"))
		time.Sleep(time.Minute)
		c.Set(first)
		must(t, (<-first.feeds).report(nil))
		w.want(t, "")
		w.stop()
		<-w.ended
	})
}

func TestWatchBeforeAnythingIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(components.ErrUnavailable)
		r, c := front(t, d)
		if err := <-watch(t, r).ended; !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable", err)
		}
		if _, err := r.List(t.Context(), stock); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("list: %v, want ErrUnavailable", err)
		}
		c.Clear(errors.New("no route to host"))
		if err := <-watch(t, r).ended; !errors.Is(err, components.ErrUnavailable) || !strings.Contains(err.Error(), "no route to host") {
			t.Errorf("%v, want ErrUnavailable that says why", err)
		}
	})
}

func TestWatchEndsWhenReportFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r, _ := front(t, d)
		enough := errors.New("enough")
		ended := make(chan error, 1)
		go func() {
			ended <- r.Watch(t.Context(), stock, func([]registry.Record) error { return enough })
		}()
		f := <-d.feeds
		f.end <- f.report(nil)
		if err := <-ended; !errors.Is(err, enough) {
			t.Errorf("%v, want what report answered", err)
		}
	})
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r, _ := front(t, d)
		go func() {
			f := <-d.feeds
			f.end <- f.report([]registry.Record{at("10.0.0.2:1"), at("10.0.0.1:1")})
		}()
		all, err := r.List(t.Context(), stock)
		if err != nil || len(all) != 2 || all[0].Address != "10.0.0.1:1" {
			t.Errorf("%v, %v", all, err)
		}
	})
}
