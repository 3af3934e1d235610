package store

import (
	"context"
	"os"
	"time"
)

// What `outrigger store` asks of an owner.
var (
	checkCall   = Unary[struct{}, struct{}]{Name: "owner/check", Safe: true}
	statusCall  = Unary[struct{}, Status]{Name: "owner/status", Safe: true}
	compactCall = Unary[struct{}, struct{}]{Name: "owner/compact", Safe: true}
	backupCall  = Unary[backupIn, struct{}]{Name: "owner/backup"}
)

type backupIn struct {
	To    string
	Links bool // it is looked at and removed at once, and may be made of links
}

// Status is how a store is doing, as its owner says.
type Status struct {
	PID    int
	Since  time.Time
	Bytes  int64            // that the files take
	Free   int64            // that the disk has left
	Keys   map[string]int64 // by machine
	Failed string           // why nothing can be written; empty if it can
}

func (m *machines) handle() {
	checkCall.Handle(&m.mux, func(context.Context, struct{}) (struct{}, error) { return struct{}{}, m.db.Check() })
	statusCall.Handle(&m.mux, m.status)
	compactCall.Handle(&m.mux, func(ctx context.Context, _ struct{}) (struct{}, error) { return struct{}{}, m.db.Compact(ctx) })
	backupCall.Handle(&m.mux, func(ctx context.Context, in backupIn) (struct{}, error) {
		return struct{}{}, m.db.Backup(ctx, in.To, in.Links)
	})
}

func (m *machines) status(ctx context.Context, _ struct{}) (s Status, err error) {
	s = Status{PID: os.Getpid(), Since: m.since, Keys: map[string]int64{}}
	s.Bytes, s.Free = m.db.Size()
	if err := m.db.Check(); err != nil {
		s.Failed = err.Error()
	}
	for name := range openers {
		v := m.db.Space(name).View()
		n := int64(0)
		for range v.Scan(nil, nil) {
			if n++; n%1000 == 0 && ctx.Err() != nil {
				break
			}
		}
		s.Keys[name] = n
		err = v.Err()
		v.Close()
		if err != nil || ctx.Err() != nil {
			break
		}
	}
	return s, err
}
