// Package storetest does to a local store what no driver does: it is for tests of what becomes of that.
package storetest

import (
	"path/filepath"
	"testing"

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
