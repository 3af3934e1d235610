package store_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
)

// TestMetersAreShownOnce, whichever components of a process are on the store, and as long as one of them is.
func TestMetersAreShownOnce(t *testing.T) {
	all, dir, shared := prometheus.NewRegistry(), t.TempDir(), components.NewShared()
	var log bytes.Buffer
	on := func(component string) *store.Link {
		meter := prometheus.WrapRegistererWith(prometheus.Labels{"component": component}, all)
		l, err := store.Join(t.Context(), components.Env{DataDir: dir, Shared: shared, Meter: meter, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		return l
	}
	shown := func(want ...string) {
		t.Helper()
		families, err := all.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range families {
			for _, m := range f.GetMetric() {
				got = append(got, fmt.Sprint(f.GetName(), " ", m.GetLabel()[0].GetValue(), " ", m.GetCounter().GetValue()))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("shown are %q, want %q", got, want)
		}
	}
	locks := on("locks")
	if _, err := add.Call(t.Context(), locks, entry{"k"}); err != nil {
		t.Fatal(err)
	}
	shown("outrigger_store_commits_total locks 1", "outrigger_store_updates_total locks 1")
	events, jobs := on("events"), on("jobs")
	events.Close()
	shown("outrigger_store_commits_total locks 1", "outrigger_store_updates_total locks 1")
	locks.Close()
	locks.Close()
	shown("outrigger_store_commits_total jobs 1", "outrigger_store_updates_total jobs 1")
	jobs.Close()
	shown()
	if log.Len() > 0 {
		t.Errorf("the log has %s", &log)
	}
}
