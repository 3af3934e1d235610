package local

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// TestAClockThatWasPutRightLongAgo is believed also if there was no job meanwhile.
func TestAClockThatWasPutRightLongAgo(t *testing.T) {
	inWorld(t, func(w *world) {
		w.stop()
		w.set(-time.Hour)
		w.start()
		w.until(1 * mins)
		w.set(0)
		w.until(30 * mins)
		if state := w.create("cron", atTen, schedule.All); !state.Next.Equal(w.begin.Add(70 * mins)) {
			t.Errorf("it is due for the first time at %v", state.Next)
		}
		w.create("at", schedule.Trigger{At: w.begin.Add(31 * mins)}, schedule.Once)
		w.until(71 * mins)
		w.want("at 31m0s", "cron 1h10m0s")
	})
}

// TestAClockThatIsSetAheadByLittle every minute, as on a virtual machine that is slow, makes no job late by more than a second.
func TestAClockThatIsSetAheadByLittle(t *testing.T) {
	for _, step := range []time.Duration{6 * time.Millisecond, 50 * time.Millisecond} {
		inWorld(t, func(w *world) {
			const hours = 24 * 60
			w.create("at", schedule.Trigger{At: w.begin.Add((hours + 1) * mins)}, schedule.Once)
			for i := range hours {
				w.set(time.Duration(i) * step)
				w.until(time.Duration(i+1) * mins)
			}
			ahead := time.Duration(hours-1) * step
			w.until((hours+1)*mins - ahead + lookAgain + time.Second)
			synctest.Wait()
			if got := w.handled(); len(got) != 1 {
				t.Errorf("after a day of steps of %s it is late: %q", step, got)
			}
		})
	}
}

// TestAClockThatWasPutRightJustNow, by being set ahead or back: what was due before a job was there is not the job's, what is due after
// it is, and what ends ends in time.
func TestAClockThatWasPutRightJustNow(t *testing.T) {
	for _, wrong := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
		inWorld(t, func(w *world) {
			w.stop()
			w.set(wrong)
			w.start()
			w.until(1 * mins)
			w.set(0)
			w.until(2 * mins)
			if state := w.create("cron", schedule.Trigger{Cron: "15,35 * * * *"}, schedule.All); !state.Next.Equal(w.begin.Add(15 * mins)) {
				t.Errorf("%s: it is due for the first time at %v", wrong, state.Next)
			}
			_, err := w.m.create(w.Context(), createIn{Key: "c/shop/orders/every", Durability: "disk", Retention: time.Hour,
				Job: schedule.Job{Name: "shop/orders/every", Trigger: schedule.Trigger{Every: 4 * mins}, Until: w.begin.Add(12 * mins)}})
			if err != nil {
				t.Fatal(err)
			}
			w.until(60 * mins)
			w.want("every 6m0s", "every 10m0s", "cron 15m0s", "cron 35m0s")
		})
	}
}
