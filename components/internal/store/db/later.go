package db

import (
	"context"
	"sync"
)

// UpdateLater is Update for who must not wait: done is called once with what Update would have answered, by any goroutine, perhaps
// at once, and waits for nothing. That ctx has ended is not noticed any more once fn may begin.
func (s *Space) UpdateLater(ctx context.Context, dur Durability, fn func(*Tx) error, done func(error)) {
	d := s.d
	u := s.update(ctx, dur, fn)
	u.later = done
	if d.ended.Err() != nil || !d.laters.add(u) {
		done(d.over())
		return
	}
	select {
	case d.queue <- u:
	default: // as many as it holds wait already
		go func() {
			select {
			case d.queue <- u:
			case <-d.ended.Done(): // forsake answers
			}
		}()
	}
}

// laters are the updates whose callers do not wait for them. Nobody else would tell those callers that the DB has ended.
type laters struct {
	mu   sync.Mutex
	all  map[*update]struct{}
	over bool
}

func (l *laters) add(u *update) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	if l.all == nil {
		l.all = map[*update]struct{}{}
	}
	l.all[u] = struct{}{}
	return true
}

// take takes out those of the updates that nobody else has answered.
func (l *laters) take(all []*update) (mine []*update) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine = all[:0]
	for _, u := range all {
		if _, ok := l.all[u]; ok {
			delete(l.all, u)
			mine = append(mine, u)
		}
	}
	return mine
}

// forsake answers all updates that the writer will not answer any more, once it has ended or the engine has failed.
func (d *DB) forsake() {
	select {
	case <-d.failed:
	case <-d.drained:
	}
	d.laters.mu.Lock()
	all := d.laters.all
	d.laters.all, d.laters.over = nil, true
	d.laters.mu.Unlock()
	for u := range all {
		err := d.over()
		if !u.takeBack() {
			err = unknown(err)
		}
		u.later(err)
	}
}
