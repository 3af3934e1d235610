package local

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// world is a machine in a bubble of time, where the wall clock can be set. Truth is what time.Now says there: it begins at
// midnight, UTC, of January 1st, 2000.
type world struct {
	*testing.T
	fs    disk
	wrong atomic.Int64 // how far the wall clock is ahead of the truth
	takes atomic.Int64 // how long handling takes
	slept atomic.Int64 // how long the machine has slept: no timer has run then
	begin time.Time

	mu    sync.Mutex
	fired []string // what was handled, with the true time since the begin

	db  *db.DB
	m   *machine
	end context.CancelFunc
}

// disk has little room left when the test says so.
type disk struct {
	vfs.FS
	full atomic.Bool
}

func (d *disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if d.full.Load() {
		return vfs.DiskUsage{AvailBytes: 8 << 20}, nil
	}
	return vfs.DiskUsage{AvailBytes: 1 << 40}, nil
}

// inWorld runs a test there.
func inWorld(t *testing.T, run func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, fs: disk{FS: vfs.NewMem()}, begin: time.Now()}
		w.start()
		defer func() { w.stop() }()
		run(w)
	})
}

func (w *world) start() {
	w.Helper()
	clock := db.Clock{Boot: "boot", Uptime: func() time.Duration { return time.Since(w.begin) + time.Duration(w.slept.Load()) },
		Wall: func() time.Time { return time.Now().Add(time.Duration(w.wrong.Load() + w.slept.Load())) }}
	log := slog.New(slog.NewTextHandler(w.Output(), nil))
	var err error
	if w.db, err = db.Open(db.Options{Dir: "store", FS: &w.fs, Clock: clock, Logger: log}); err != nil {
		w.Fatal(err)
	}
	var ctx context.Context
	ctx, w.end = context.WithCancel(w.Context())
	if w.m, err = open(ctx, w.db.Space("schedule"), log); err != nil {
		w.Fatal(err)
	}
	w.handle()
}

func (w *world) stop() {
	w.Helper()
	w.end()
	w.m.Close()
	if err := w.db.Close(); err != nil {
		w.Error(err)
	}
	synctest.Wait()
}

// set puts the wall clock so far ahead of the truth.
func (w *world) set(ahead time.Duration) { w.wrong.Store(int64(ahead)) }

// handle settles whatever fires, at once unless it takes long.
func (w *world) handle() {
	m := w.m
	s := m.join(&start{Application: "c/shop/orders/", Term: time.Minute})
	m.want(s, &wanted{Turn: 1, Room: schedule.Room{Messages: 1, Bytes: 1 << 20}})
	go func() {
		for {
			select {
			case <-s.wake:
			case <-m.ctx.Done():
				m.leave(s)
				return
			}
			out, err := m.deliveries(s)
			if err != nil {
				w.Error(err)
				return
			}
			for _, f := range out.Firings {
				w.mu.Lock()
				w.fired = append(w.fired, f.Job.Name[len("shop/orders/"):]+" "+time.Since(w.begin).Truncate(time.Second).String())
				w.mu.Unlock()
				time.Sleep(time.Duration(w.takes.Load()))
				m.settle(s, []schedule.Settlement{{Position: f.Position}})
			}
			m.want(s, &wanted{Turn: 1, Room: schedule.Room{Messages: 1, Bytes: 1 << 20}})
		}
	}()
}

func (w *world) create(name string, t schedule.Trigger, missed schedule.Missed) schedule.State {
	w.Helper()
	state, err := w.m.create(w.Context(), createIn{Key: "c/shop/orders/" + name, Durability: "disk", SkipAfter: 10 * time.Second, Retention: time.Hour,
		Job: schedule.Job{Name: "shop/orders/" + name, Trigger: t, Missed: missed}})
	if err != nil {
		w.Fatal(err)
	}
	return state
}

// until lets time pass up to so long after the begin.
func (w *world) until(d time.Duration) {
	time.Sleep(time.Until(w.begin.Add(d)))
	synctest.Wait()
}

// handled is what was since it was asked last, sorted.
func (w *world) handled() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Sorted(slices.Values(w.fired))
	w.fired = nil
	return all
}

func (w *world) want(all ...string) {
	w.Helper()
	if got := w.handled(); !slices.Equal(got, slices.Sorted(slices.Values(all))) {
		w.Fatalf("handled %q, want %q", got, all)
	}
}

const (
	mins = time.Minute
	sec  = time.Second
)

var (
	atTen  = schedule.Trigger{Cron: "10 * * * *"} // minutes past each hour
	everyX = schedule.Trigger{Every: 10 * mins}
)

// TestAnHourForward: the clock is set ahead by mistake for 9 minutes. Nothing is early.
func TestAnHourForward(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create("cron", atTen, schedule.Once)
		w.create("every", everyX, schedule.Once)
		w.create("at", schedule.Trigger{At: w.begin.Add(65 * mins)}, schedule.Once)
		w.until(1 * mins)
		w.set(time.Hour)
		w.until(9*mins + 59*sec)
		w.want()
		w.until(10*mins + 1*sec)
		w.want("cron 10m0s", "every 10m0s")
		w.set(0)
		w.until(75 * mins)
		w.want("every 20m0s", "every 30m0s", "every 40m0s", "every 50m0s", "every 1h0m0s", "at 1h5m0s", "cron 1h10m0s", "every 1h10m0s")
	})
}

// TestAMachineThatSleeps: what became due meanwhile comes when it wakes, and not as much later.
func TestAMachineThatSleeps(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create("every", schedule.Trigger{Every: time.Hour}, schedule.Once)
		w.until(1 * mins)
		w.slept.Store(int64(time.Hour))
		w.until(1*mins + 6*sec)
		if got := w.handled(); len(got) != 1 {
			t.Errorf("handled %q within 6 seconds", got)
		}
	})
}

// TestAnHourBack: the clock is set back by mistake for 9 minutes. Nothing fires twice, nothing before a clock shows its time,
// and all that is late comes when the clock is right again.
func TestAnHourBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create("cron", atTen, schedule.Once)
		w.create("every", everyX, schedule.Once)
		w.until(65 * mins)
		w.want("cron 10m0s", "every 10m0s", "every 20m0s", "every 30m0s", "every 40m0s", "every 50m0s", "every 1h0m0s")
		w.set(-time.Hour)
		w.until(74 * mins)
		w.want("every 1h10m0s")
		w.set(0)
		w.until(75 * mins)
		w.want("cron 1h14m5s") // when it looks again
		w.until(135 * mins)
		w.want("every 1h20m0s", "every 1h30m0s", "every 1h40m0s", "every 1h50m0s", "every 2h0m0s", "cron 2h10m0s", "every 2h10m0s")
	})
}

// TestAClockThatWasSlow: the clock had been wrong, and is put right by setting it ahead. After 10 minutes that is believed.
func TestAClockThatWasSlow(t *testing.T) {
	inWorld(t, func(w *world) {
		w.stop()
		w.set(-time.Hour)
		w.start()
		w.create("at", schedule.Trigger{At: w.begin.Add(5 * mins)}, schedule.Once)
		w.create("later", schedule.Trigger{At: w.begin.Add(30 * mins)}, schedule.Once)
		w.until(1 * mins)
		w.set(0)
		w.until(10*mins + 59*sec)
		w.want()
		w.until(11*mins + 10*sec)
		if got := w.handled(); len(got) != 1 || got[0][:2] != "at" {
			w.Fatalf("handled %q, want at when the clock has been believed", got)
		}
		w.until(31 * mins)
		w.want("later 30m0s")
	})
}

// TestAClockThatWasFast: it is put right by setting it back. No job is before the truth from then on.
func TestAClockThatWasFast(t *testing.T) {
	inWorld(t, func(w *world) {
		w.stop()
		w.set(time.Hour)
		w.start()
		w.create("at", schedule.Trigger{At: w.begin.Add(65 * mins)}, schedule.Once)
		w.until(1 * mins)
		w.set(0)
		w.until(64 * mins)
		w.want()
		w.until(66 * mins)
		w.want("at 1h5m0s")
	})
}

// TestAClockThatIsSetAgainAndAgain is believed only once it has been left alone.
func TestAClockThatIsSetAgainAndAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create("at", schedule.Trigger{At: w.begin.Add(65 * mins)}, schedule.Once)
		for i := range 6 {
			w.set(time.Hour + time.Duration(i)*time.Second)
			w.until(time.Duration(i+1) * 9 * mins)
		}
		w.set(0)
		w.want()
		w.until(66 * mins)
		w.want("at 1h5m0s")
	})
}

// TestTheOwnerIsAway: what becomes due meanwhile is up to each job.
func TestTheOwnerIsAway(t *testing.T) {
	inWorld(t, func(w *world) {
		for name, missed := range map[string]schedule.Missed{"all": schedule.All, "once": schedule.Once, "skip": schedule.Skip} {
			w.create(name, schedule.Trigger{Every: 10 * mins}, missed)
		}
		w.create("table", schedule.Trigger{Cron: "*/15 * * * *"}, schedule.All)
		w.until(5 * mins)
		w.stop()
		w.until(35 * mins)
		w.start()
		w.until(36 * mins)
		count := map[string]int{}
		for _, f := range w.handled() {
			count[f]++
		}
		if want := map[string]int{"all 35m0s": 3, "once 35m0s": 1, "table 35m0s": 2}; !maps.Equal(count, want) {
			w.Fatalf("handled %v, want %v", count, want)
		}
		w.until(41 * mins)
		w.want("all 40m0s", "once 40m0s", "skip 40m0s")
	})
}

// TestAJobThatIsOver is forgotten some time later, and may be made anew then.
func TestAJobThatIsOver(t *testing.T) {
	inWorld(t, func(w *world) {
		now := schedule.Trigger{At: w.begin}
		w.create("j", now, schedule.Once)
		w.until(59 * mins)
		w.create("j", now, schedule.Once)
		w.want("j 0s")
		w.until(61 * mins)
		if _, err := w.m.get(w.Context(), getIn{"c/shop/orders/j"}); err == nil {
			t.Error("it is remembered after its retention")
		}
		if len(w.m.jobs) != 0 || len(w.m.onStore)+len(w.m.onWall) != 0 {
			t.Errorf("%d jobs and %d timers are left", len(w.m.jobs), len(w.m.onStore)+len(w.m.onWall))
		}
		w.create("j", now, schedule.Once)
		w.want("j 1h1m0s")
	})
}

// TestAFrozenSidecar has its firings taken away some time after their deadline.
func TestAFrozenSidecar(t *testing.T) {
	inWorld(t, func(w *world) {
		frozen := w.m.join(&start{Application: "c/shop/orders/", Term: time.Minute})
		w.m.mu.Lock()
		app := frozen.app // the frozen one is asked first
		app.sessions[0], app.sessions[1] = app.sessions[1], app.sessions[0]
		w.m.mu.Unlock()
		w.m.want(frozen, &wanted{Turn: 1, Room: schedule.Room{Messages: 1, Bytes: 1 << 20}})
		w.create("j", schedule.Trigger{At: w.begin}, schedule.Once)
		out, err := w.m.deliveries(frozen)
		if err != nil || len(out.Firings) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		w.until(1*mins + 4*sec)
		w.want()
		w.until(1*mins + 6*sec)
		w.want("j 1m5s")
		w.m.settle(frozen, []schedule.Settlement{{Position: out.Firings[0].Position, Outcome: schedule.Again}}) // it wakes
		w.until(2 * mins)
		w.want()
		w.m.leave(frozen)
	})
}
