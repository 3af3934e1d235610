// Package store is the local store as operators see it: the durable folder behind every driver called local, which the sidecars
// with one data folder share. Who owns it, whether it is whole, what it takes, copies of it; all of that also while it is in use.
package store

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
)

// Store is that of a data folder. Safe for concurrent use, and by several processes.
type Store struct{ care store.Care }

// Of is the store of a data folder, be there one or not.
func Of(dataDir string, log *slog.Logger) *Store {
	return &Store{store.Care{DataDir: dataDir, Log: log}}
}

// Status is how a store is doing.
type Status struct {
	Folder string           `json:"folder"`
	PID    int              `json:"pid"` // of the process that has it open; 0: nobody
	Since  time.Time        `json:"since,omitzero"`
	Bytes  int64            `json:"bytes"`           // that its files take
	Free   int64            `json:"free_bytes"`      // that the disk has left
	Keys   map[string]int64 `json:"keys,omitempty"`  // by capability; only while somebody has it open
	Error  string           `json:"error,omitempty"` // why nothing can be written
}

// Status tells it. A folder without a store is components.ErrNotFound.
func (s *Store) Status(ctx context.Context) (Status, error) {
	st, err := s.care.Status(ctx)
	for err == nil && st.PID == os.Getpid() { // the owner went after it was looked for, and this process was it meanwhile
		st, err = s.care.Status(ctx)
	}
	return Status{store.Dir(s.care.DataDir), st.PID, st.Since, st.Bytes, st.Free, st.Keys, st.Failed}, err
}

// Verify reads all of it; what cannot be read is components.ErrDamaged, with file and place in the text.
func (s *Store) Verify(ctx context.Context) error { return s.care.Verify(ctx) }

// Compact gives back the room of what was deleted.
func (s *Store) Compact(ctx context.Context) error { return s.care.Compact(ctx) }

// Backup copies it, as it is at one moment, to a folder that is empty or absent.
func (s *Store) Backup(ctx context.Context, to string) error { return s.care.Backup(ctx, to) }

// Restore makes a backup the store, where there is none yet and nobody has it open.
func (s *Store) Restore(ctx context.Context, from string) error { return s.care.Restore(ctx, from) }

// Own has this process own the store, or take it over from who does, until ctx ends. joined is told the owner's process id once the
// store can be used.
func (s *Store) Own(ctx context.Context, joined func(pid int)) error {
	return s.care.Own(ctx, func(o store.Owner) { joined(o.PID) })
}
