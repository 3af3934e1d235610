// Package storetest does to a local store what no driver does: it is for tests of what becomes of that.
package storetest

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// Put writes records, by key, into the space of a machine, in a store that nobody has open.
func Put(t testing.TB, dataDir, space string, records map[string][]byte) {
	t.Helper()
	update(t, dataDir, space, func(tx *db.Tx) {
		for key, value := range records {
			tx.Set([]byte(key), value)
		}
	})
}

// Delete removes records likewise.
func Delete(t testing.TB, dataDir, space string, keys ...string) {
	t.Helper()
	update(t, dataDir, space, func(tx *db.Tx) {
		for _, key := range keys {
			tx.Delete([]byte(key))
		}
	})
}

func update(t testing.TB, dataDir, space string, change func(*db.Tx)) {
	t.Helper()
	d, err := db.Open(db.Options{Dir: filepath.Join(store.Dir(dataDir), "data")})
	if err != nil {
		t.Fatal(err)
	}
	err = d.Space(space).Update(t.Context(), db.Disk, func(tx *db.Tx) error {
		change(tx)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// Abandon makes a call of a machine whose caller gives up after the call's update was run, and before it is safe. Then own is called, in
// which the caller may do what it likes with all that it had lent, while what is left of the update is done. To be called in a
// bubble of testing/synctest.
func Abandon(t testing.TB, space *db.Space, call func(context.Context) error, own func()) {
	t.Helper()
	behind, safe := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		if err := space.Update(t.Context(), db.OS, func(tx *db.Tx) error {
			<-behind // until the call's update waits: the two are committed together
			tx.Then(func() { <-safe })
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() {
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the call ended before its caller gave up: %v", err)
		}
		own()
	})
	synctest.Wait()
	close(behind)
	synctest.Wait()
	cancel()
	close(safe)
	running.Wait()
	synctest.Wait()
}
