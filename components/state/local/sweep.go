package local

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// sweepEvery is how often what has expired is looked for, and sweepStep how many records go in one update: others wait for it.
const (
	sweepEvery = time.Second
	sweepStep  = 256
)

// sweep takes the room of what has expired back until ctx ends. Why it cannot is said once, and again when that has changed.
func (m *machine) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	said := ""
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		why := ""
		for more := true; more; {
			var err error
			if more, err = m.sweepSome(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, db.ErrClosed) {
				if why = reason(err); why != said {
					m.log.Warn("what has expired could not be removed", "err", err)
				}
			}
		}
		said = why
	}
}

// reason is what stays the same of an error while its text has other numbers each time.
func reason(err error) string {
	if d := (*components.Detail)(nil); errors.As(err, &d) && d.Reason != "" {
		return string(d.Reason)
	}
	return err.Error()
}

// sweepSome removes up to sweepStep records, and tells whether there may be more. That it is lost with the power does no harm.
func (m *machine) sweepSome(ctx context.Context) (more bool, err error) {
	due, err := m.due()
	if err != nil || len(due) == 0 {
		return false, err
	}
	err = m.remove(ctx, due)
	return err == nil && len(due) == sweepStep, err
}

// remove removes what the entries of the index lead to, but for what was written anew meanwhile. Of what cannot be read the index
// alone knows when it ends.
func (m *machine) remove(ctx context.Context, due [][]byte) error {
	return m.space.Update(ctx, db.OS, func(tx *db.Tx) error {
		w := work{Tx: tx, now: tx.Now()}
		for _, entry := range due {
			at, key := db.Time(binary.BigEndian.Uint64(entry[1:])), entry[9:]
			o, err := w.look(key, false)
			unread := errors.Is(err, components.ErrDamaged)
			switch {
			case err != nil && !unread:
				return err
			case unread || o.index == at:
				w.Delete(key)
			}
			w.Delete(entry)
		}
		return nil
	})
}

// due are the first entries of the index whose time has come.
func (m *machine) due() (entries [][]byte, err error) {
	v := m.space.View()
	defer v.Close()
	for entry := range v.Scan([]byte{expiring}, indexKey(m.space.Now()+1, nil)) {
		if len(entry) > 9 {
			entries = append(entries, append([]byte(nil), entry...))
		}
		if len(entries) == sweepStep {
			break
		}
	}
	return entries, v.Err()
}
