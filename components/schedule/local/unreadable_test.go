package local_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/storetest"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// on opens a driver on a folder, whose process logs to log.
func on(t *testing.T, dir string, log io.Writer) (d schedule.Driver, shut func()) {
	t.Helper()
	options, err := schedule.Drivers.Decode("local", func(any) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if d, err = schedule.Drivers.Open(context.WithoutCancel(t.Context()), "local", env(dir, components.NewShared(), log), options); err != nil {
		t.Fatal(err)
	}
	return d, func() {
		if err := d.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// TestUnreadableJobs: each of them says so and no more, whatever is wrong with it; other jobs fire.
func TestUnreadableJobs(t *testing.T) {
	const app = "shop/orders/"
	dir := t.TempDir()
	d, shut := on(t, dir, t.Output())
	bad := []string{"content", "newer", "run", "lost", "zone"}
	for _, name := range append(bad, "sound") {
		if _, err := d.Create(t.Context(), schedule.Job{Name: app + name, Trigger: schedule.Trigger{At: time.Now().Add(-time.Second)}}, false); err != nil {
			t.Fatal(err)
		}
	}
	shut()
	zone, err := store.EncodeRecord(map[int]any{1: 1, 2: "0 0 * * *", 3: "Atlantis/Poseidonis", 12: time.Now(), 14: "disk"})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Put(t, dir, "schedule", map[string][]byte{"jdefault/" + app + "content": []byte("garbage"), "jdefault/" + app + "newer": {9, 0xa0},
		"rdefault/" + app + "run": {1, 0xff}, "jdefault/" + app + "zone": zone})
	storetest.Delete(t, dir, "schedule", "rdefault/"+app+"lost")

	var log bytes.Buffer
	d, shut = on(t, dir, &log)
	defer func() { shut() }()
	for _, name := range bad {
		_, err := d.Get(t.Context(), app+name)
		if !errors.Is(err, components.ErrDamaged) || errors.Is(err, components.ErrInvalid) || !strings.Contains(err.Error(), app+name) {
			t.Errorf("get %s: %v; want that it is damaged", name, err)
		}
		if _, again := d.Create(t.Context(), schedule.Job{Name: app + name, Trigger: hourly}, false); !errors.Is(again, components.ErrDamaged) {
			t.Errorf("create %s: %v; want that what is there is damaged", name, again)
		}
	}
	if _, err := d.List(t.Context(), app, "", 100); !errors.Is(err, components.ErrDamaged) {
		t.Errorf("list: %v; want that there is something that cannot be read", err)
	}
	if got := fired(t, d, 1); got != "sound" {
		t.Errorf("%q has fired, want the sound one", got)
	}
	for i, name := range bad { // and each is mended in one of two ways
		if i%2 == 0 {
			if err := d.Delete(t.Context(), app+name); err != nil {
				t.Errorf("delete %s: %v", name, err)
			}
		}
		if _, err := d.Create(t.Context(), schedule.Job{Name: app + name, Trigger: schedule.Trigger{At: time.Now()}}, i%2 != 0); err != nil {
			t.Errorf("create %s anew: %v", name, err)
		}
	}
	fired(t, d, len(bad))
	shut()
	for _, name := range bad {
		if n := strings.Count(log.String(), "job="+app+name+" "); n != 1 {
			t.Errorf("%s is in the log %d times:\n%s", name, n, &log)
		}
	}
	d, shut = on(t, dir, t.Output())
}

var hourly = schedule.Trigger{Cron: "@hourly"}

// fired takes as many firings, and answers the last one's name.
func fired(t *testing.T, d schedule.Driver, n int) (name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := d.Watch(ctx, schedule.Watching{Application: "shop/orders/", AckDeadline: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.WithoutCancel(ctx))
	for n > 0 {
		all, err := s.Fetch(ctx, schedule.Room{Messages: 1, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			n--
			name = strings.TrimPrefix(f.Job.Name, "shop/orders/")
			if err := s.Settle(ctx, []schedule.Settlement{{Position: f.Position}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return name
}
