package db

import "sync/atomic"

// Stats count what was committed since the DB was opened: Updates over Commits is how many shared one sync.
type Stats struct{ commits, updates atomic.Uint64 }

func (s *Stats) count(updates int) {
	s.commits.Add(1)
	s.updates.Add(uint64(updates))
}

// Commits is how often a group of updates was written together.
func (s *Stats) Commits() uint64 { return s.commits.Load() }

// Updates is how many updates there were in those groups.
func (s *Stats) Updates() uint64 { return s.updates.Load() }

// Stats are those of the DB.
func (d *DB) Stats() *Stats { return &d.stats }
