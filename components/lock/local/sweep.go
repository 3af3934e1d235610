package local

import (
	"context"
	"errors"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

const (
	sweepEvery = time.Minute
	sweepMost  = 1000 // records of one update
)

// sweep removes what is left of leases that ended and that nobody has looked at since.
func (m *machine) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := m.sweepOnce(m.ctx); err != nil && m.ctx.Err() == nil {
				m.log.Warn("leases that are over could not be removed", "err", err)
			}
		case <-m.ctx.Done():
			return
		}
	}
}

func (m *machine) sweepOnce(ctx context.Context) error {
	for from := []byte(nil); ; {
		over, next, err := m.over(from)
		if err != nil || len(over) == 0 {
			return err
		}
		err = m.space.Update(ctx, db.OS, func(tx *db.Tx) error {
			for _, key := range over {
				_, _, err := m.look(tx, key)
				if errors.Is(err, components.ErrDamaged) {
					err = m.free(tx, key)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || next == nil {
			return err
		}
		from = next
	}
}

// over answers the keys of leases that are over, and where to go on if there may be more. Of one that cannot be read it is known when the
// longest lease is over.
func (m *machine) over(from []byte) (keys []string, next []byte, err error) {
	v := m.space.View()
	defer v.Close()
	now := m.space.Now()
	for key, record := range v.Scan(from, nil) {
		if len(keys) == sweepMost {
			return keys, append([]byte(nil), key...), nil
		}
		h, err := decode(string(key), record)
		if err != nil {
			h.Deadline = m.spoiled(string(key), now, err)
		}
		if h.Deadline <= now {
			keys = append(keys, string(key))
		}
	}
	return keys, nil, v.Err()
}

// spoiled is until when a lock may be held whose record cannot be read. That is said once.
func (m *machine) spoiled(key string, now db.Time, why error) db.Time {
	until, known := m.unread[key]
	if !known {
		until = now.Add(lock.MaxLease)
		m.unread[key] = until
		m.log.Error("nobody can have a lock for a day", "op", "sweep", "lock", key, "err", why)
	}
	return until
}
