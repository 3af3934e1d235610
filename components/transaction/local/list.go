package local

import (
	"context"
	"errors"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// list answers those that match, and looks at no more than it has to.
func (m *machine) list(ctx context.Context, in listIn) (out listOut, err error) {
	v := m.space.View()
	defer v.Close()
	from := runKey(in.Prefix)
	if in.After != "" {
		from = append(runKey(in.Prefix+in.After), 0)
	}
	wanted := map[transaction.State]bool{}
	for _, s := range in.States {
		wanted[s] = true
	}
	now := m.space.Now()
	for raw, value := range v.Scan(from, db.After(runKey(in.Prefix))) {
		if err := ctx.Err(); err != nil {
			return listOut{}, err
		}
		t := &tx{key: string(raw[1:])}
		if err := decode(t.key, value, &t.run); err != nil {
			m.log.Error("a transaction is not listed", "op", "list", "gid", name(t.key), "err", err)
			continue
		}
		if len(wanted) > 0 && !wanted[t.State] || in.OlderThan > 0 && now.Sub(t.Start) < in.OlderThan {
			continue
		}
		if len(out.All) == in.Limit {
			out.More = true
			break
		}
		content, ok, err := v.Get(contentKey(t.key))
		if err != nil {
			return listOut{}, err
		}
		if ok {
			err = decode(t.key, content, &t.content)
		}
		if err != nil {
			m.log.Error("a transaction is not listed", "op", "list", "gid", name(t.key), "err", err)
			continue
		}
		out.All = append(out.All, t.info(now, false))
	}
	return out, v.Err()
}

func (m *machine) count(_ context.Context, in getIn) (transaction.Counts, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := transaction.Counts{States: map[transaction.State]int64{}}
	if t := m.counts[in.Key]; t != nil {
		for s, n := range t.states {
			out.States[s] = n
		}
	}
	for key, e := range m.all {
		if application(key) != in.Key {
			continue
		}
		out.Older(e.began)
		if e.attempts >= transaction.StuckAfter && e.state != transaction.Running && e.state != transaction.Prepared {
			out.Stuck++
		}
	}
	return out, nil
}

const (
	sweepEvery = time.Minute
	sweepMost  = 256 // in one update
)

// sweep forgets what has ended long enough ago.
func (m *machine) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.ctx.Done():
			return
		}
		for more := true; more; {
			var err error
			if more, err = m.sweepSome(); err != nil && m.ctx.Err() == nil && !errors.Is(err, db.ErrClosed) {
				m.log.Warn("transactions that have ended could not be removed", "err", err)
			}
		}
	}
}

func (m *machine) sweepSome() (more bool, err error) {
	v := m.space.View()
	var over [][]byte
	for raw := range v.Scan([]byte("x"), overKey(m.space.Now()+1, "")) {
		if over = append(over, append([]byte(nil), raw...)); len(over) == sweepMost {
			break
		}
	}
	err = v.Err()
	v.Close()
	if err != nil || len(over) == 0 {
		return false, err
	}
	err = m.space.Update(m.ctx, db.OS, func(w *db.Tx) error {
		for _, raw := range over {
			key := string(raw[1+16:])
			var r run
			if ok, err := get(w, key, runKey(key), &r); err == nil && ok {
				w.Then(func() { m.forgot(key, r.State) })
			}
			w.Delete(contentKey(key))
			w.Delete(runKey(key))
			w.Delete(raw)
		}
		return nil
	})
	return err == nil && len(over) == sweepMost, err
}

func (m *machine) forgot(key string, s transaction.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.counts[application(key)]; t != nil {
		t.states[s]--
	}
}
