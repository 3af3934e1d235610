package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/internal/store/storetest"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

func (w *world) update(dur db.Durability, fn func(tx *db.Tx)) {
	w.Helper()
	if err := w.db.Space("schedule").Update(w.Context(), dur, func(tx *db.Tx) error {
		fn(tx)
		return nil
	}); err != nil {
		w.Error(err)
	}
}

// TestRecordsSpoilWhileJobsFire, all at the same moment: those that cannot be read are left out, and the others fire on.
func TestRecordsSpoilWhileJobsFire(t *testing.T) {
	inWorld(t, func(w *world) {
		for _, name := range []string{"content", "run", "sound"} {
			w.create(name, schedule.Trigger{Every: 10 * time.Second}, schedule.Once)
		}
		w.until(15 * time.Second)
		w.update(db.Disk, func(tx *db.Tx) {
			tx.Set(contentKey("c/shop/orders/content"), []byte{1, 0xff})
			tx.Set(runKey("c/shop/orders/run"), nil)
		})
		w.until(45 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		want := []string{"content 10s", "run 10s", "sound 10s", "sound 20s", "sound 30s", "sound 40s"}
		if got := slices.Sorted(slices.Values(w.fired)); !slices.Equal(got, want) {
			w.Errorf("fired %q, want %q", got, want)
		}
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		if jobs := slices.Sorted(maps.Keys(w.m.jobs)); !slices.Equal(jobs, []string{"c/shop/orders/sound"}) {
			w.Errorf("%q are to be fired still", jobs)
		}
	})
}

// TestLentUntilCreateReturns: when a caller has given up, what it has lent is its own again, though the job may be kept after that.
func TestLentUntilCreateReturns(t *testing.T) {
	inWorld(t, func(w *world) {
		j := schedule.Job{Name: "shop/orders/j", Trigger: schedule.Trigger{Every: time.Hour}, Data: []byte("data"), Metadata: map[string]string{"k": "v"}}
		create := func(ctx context.Context) error {
			_, err := w.m.create(ctx, createIn{Key: "c/shop/orders/j", Durability: "disk", Job: j})
			return err
		}
		storetest.Abandon(w, w.m.space, create, func() {
			copy(j.Data, "XXXX")
			delete(j.Metadata, "k")
		})
		state, err := w.m.get(w.Context(), getIn{"c/shop/orders/j"})
		if err != nil || string(state.Data) != "data" || state.Metadata["k"] != "v" {
			w.Errorf("%+v, %v", state, err)
		}
	})
}

// broken is what reads from a file of which a part is damaged.
type broken map[string][]byte

func (b broken) Get(key []byte) (value []byte, ok bool, err error) {
	if value, ok = b[string(key)]; ok && value == nil {
		err = fmt.Errorf("%w: a file", components.ErrDamaged)
	}
	return value, ok && value != nil, err
}

// TestDamagedFile fails the jobs whose records are there.
func TestDamagedFile(t *testing.T) {
	sound, err := store.EncodeRecord(content{Every: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string]broken{"content": {"jc/a/b/j": nil}, "run": {"jc/a/b/j": sound, "rc/a/b/j": nil}} {
		if _, _, err := find(b, "c/a/b/j"); !errors.Is(err, components.ErrDamaged) || !strings.Contains(err.Error(), `"a/b/j"`) {
			t.Errorf("%s: %v, want that the job is damaged", what, err)
		}
	}
}
