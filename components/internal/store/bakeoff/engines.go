package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

var candidates = []candidate{
	{"the store (journal and Pebble)", openStore},
	{"Pebble with its own log", openPebble},
	{"bbolt", openBolt},
	{"SQLite (WAL, FULL)", openSQLite},
}

func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

type storeEngine struct{ *db.DB }

func openStore(dir string) (engine, error) {
	d, err := db.Open(db.Options{Dir: dir})
	return storeEngine{d}, err
}

// write makes an update of each, as machines do: the store groups them itself.
func (s storeEngine) write(group [][2][]byte) error {
	space := s.Space("bench")
	errs := make([]error, len(group))
	var all sync.WaitGroup
	for i, kv := range group {
		all.Go(func() {
			errs[i] = space.Update(context.Background(), db.Disk, func(tx *db.Tx) error {
				tx.Set(kv[0], kv[1])
				return nil
			})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (s storeEngine) close() error { return s.Close() }

type pebbleEngine struct{ *pebble.DB }

func openPebble(dir string) (engine, error) {
	d, err := pebble.Open(dir, &pebble.Options{MemTableSize: 4 << 20, Logger: silent{}})
	return pebbleEngine{d}, err
}

type silent struct{}

func (silent) Infof(string, ...any)              {}
func (silent) Errorf(string, ...any)             {}
func (silent) Fatalf(format string, args ...any) { check(fmt.Errorf(format, args...)) }

func (p pebbleEngine) write(group [][2][]byte) error {
	b := p.NewBatch()
	defer b.Close()
	for _, kv := range group {
		if err := b.Set(kv[0], kv[1], nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (p pebbleEngine) close() error { return p.Close() }

type boltEngine struct{ *bolt.DB }

var bucket = []byte("bench")

func openBolt(dir string) (engine, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d, err := bolt.Open(filepath.Join(dir, "bolt"), 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	return boltEngine{d}, d.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
}

func (b boltEngine) write(group [][2][]byte) error {
	return b.Update(func(tx *bolt.Tx) error {
		for _, kv := range group {
			if err := tx.Bucket(bucket).Put(kv[0], kv[1]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b boltEngine) close() error { return b.Close() }

type sqliteEngine struct{ *sql.DB }

func openSQLite(dir string) (engine, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "sqlite")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	d.SetMaxOpenConns(1)
	_, err = d.Exec("CREATE TABLE IF NOT EXISTS bench (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")
	return sqliteEngine{d}, err
}

func (s sqliteEngine) write(group [][2][]byte) error {
	tx, err := s.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	put, err := tx.Prepare("INSERT OR REPLACE INTO bench VALUES (?, ?)")
	if err != nil {
		return err
	}
	for _, kv := range group {
		if _, err := put.Exec(kv[0], kv[1]); err != nil {
			return err
		}
	}
	return errors.Join(put.Close(), tx.Commit())
}

func (s sqliteEngine) close() error { return s.Close() }
