//go:build servers

package etcd_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn/etcdtest"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/sequence/etcd"
	"github.com/outrigger-mesh/outrigger/components/sequence/sequencetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o etcd.Options) sequence.Driver {
	t.Helper()
	d, err := etcd.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	for name, ahead := range map[string]int64{"none ahead": 0, "default": 1000} {
		t.Run(name, func(t *testing.T) {
			o := etcd.Options{Etcd: etcdtest.Options(t), Prefix: etcdtest.Prefix(), Ahead: ahead}
			sequencetest.Run(t, func(t *testing.T) sequence.Driver { return open(t, o) })
		})
	}
}

// TestNoNumberIsGivenTwice though answers are lost and connections end, while two sidecars draw.
func TestNoNumberIsGivenTwice(t *testing.T) {
	wire := wiretest.New(t, etcdtest.Options(t).Addresses[0])
	o := etcd.Options{Etcd: etcdtest.Options(t), Prefix: etcdtest.Prefix(), Ahead: 10}
	far := open(t, o)
	t.Cleanup(func() { componenttest.Close(t, far) })
	o.Etcd.Addresses = []string{wire.Addr()}
	near := open(t, o)
	t.Cleanup(func() { componenttest.Close(t, near) })

	var mu sync.Mutex
	given, greatest, failed := map[int64]bool{}, int64(0), 0
	draw := func(ctx context.Context, d sequence.Driver, unique bool) {
		mu.Lock()
		before := greatest
		mu.Unlock()
		by := d.Next
		if unique {
			by = d.(sequence.Uniquer).Unique
		}
		first, err := by(ctx, "k", 2)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			failed++
		case given[first] || given[first+1]:
			t.Errorf("%d was given again", first)
		case !unique && first <= before:
			t.Errorf("%d is given in order, when %d had been given", first, before)
		default:
			given[first], given[first+1] = true, true
			greatest = max(greatest, first+1)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				limit, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
				draw(limit, []sequence.Driver{near, far}[i%2], i > 5)
				cancel()
			}
		})
	}
	for range 5 {
		for _, mode := range []wiretest.Mode{wiretest.Deaf, wiretest.Cut, wiretest.Whole} {
			time.Sleep(100 * time.Millisecond)
			wire.Set(mode)
		}
	}
	time.Sleep(500 * time.Millisecond)
	stop()
	all.Wait()
	if len(given) < 100 || failed == 0 {
		t.Errorf("%d numbers were given, and %d calls failed: that shows nothing", len(given), failed)
	}
}

func TestTheEndOfTheNumbers(t *testing.T) {
	o := etcd.Options{Etcd: etcdtest.Options(t), Prefix: etcdtest.Prefix(), Ahead: 1000}
	d, client := open(t, o), etcdtest.Client(t, o.Etcd)
	t.Cleanup(func() { componenttest.Close(t, d) })
	put := func(value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), o.Prefix+"k", value); err != nil {
			t.Fatal(err)
		}
	}
	put(strconv.FormatInt(math.MaxInt64-25, 10))
	last := int64(math.MaxInt64 - 25)
	for _, n := range []int64{5, 26, 19, 2, 1, 1} {
		first, err := d.Next(t.Context(), "k", n)
		var detail *components.Detail
		switch fits := n <= math.MaxInt64-last; {
		case fits && (err != nil || first <= last):
			t.Errorf("%d numbers after %d: %d, %v", n, last, first, err)
		case !fits && (!errors.Is(err, components.ErrExhausted) || !errors.As(err, &detail) || detail.Reason != sequence.ReasonExhausted):
			t.Errorf("%d numbers after %d: %d, %v; want SEQUENCE_EXHAUSTED", n, last, first, err)
		case fits:
			last = first + n - 1
		}
	}
	put("none")
	if _, err := d.Next(t.Context(), "k", 1); !errors.Is(err, components.ErrDamaged) || !strings.Contains(err.Error(), `"k"`) {
		t.Errorf("a record that is no number: %v", err)
	}
	put("7")
	if first, err := d.Next(t.Context(), "k", 1); err != nil || first != 8 {
		t.Errorf("when it is mended: %d, %v", first, err)
	}
}

// TestCallsAtOnceShareWrites: so does what is put aside.
func TestCallsAtOnceShareWrites(t *testing.T) {
	o := etcd.Options{Etcd: etcdtest.Options(t), Prefix: etcdtest.Prefix(), Ahead: 1000}
	d, client := open(t, o), etcdtest.Client(t, o.Etcd)
	t.Cleanup(func() { componenttest.Close(t, d) })
	for name, draw := range map[string]func(context.Context, string, int64) (int64, error){"next": d.Next, "unique": d.(sequence.Uniquer).Unique} {
		const calls = 512
		componenttest.Together(calls, func(int) {
			if _, err := draw(t.Context(), name, 1); err != nil {
				t.Error(err)
			}
		})
		got, err := client.Get(t.Context(), o.Prefix+name)
		if err != nil || len(got.Kvs) != 1 {
			t.Fatal(got, err)
		}
		if writes := got.Kvs[0].Version; writes > calls/4 {
			t.Errorf("%s: %d writes for %d calls at once", name, writes, calls)
		}
	}
}
