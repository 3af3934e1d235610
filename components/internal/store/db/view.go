package db

import (
	"errors"
	"iter"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// snapshot is what was on the disk after a commit; views share it.
type snapshot struct {
	*pebble.Snapshot
	refs atomic.Int64
}

// now is what the tables have.
func (d *DB) now() *snapshot {
	s := &snapshot{Snapshot: d.pebble.NewSnapshot()}
	s.refs.Store(1)
	return s
}

// publish shows s to views from now on.
func (d *DB) publish(s *snapshot) {
	if old := d.view.Swap(s); old != nil {
		old.release()
	}
}

func (s *snapshot) release() {
	if s.refs.Add(-1) == 0 {
		_ = s.Snapshot.Close() // it fails for one that is closed already
	}
}

// View is what was there, and safe, at one moment. It must be closed, and soon: what it shows is kept until then. Not for
// concurrent use.
type View struct {
	s      *snapshot
	prefix []byte
	err    error
}

// View takes one. Of a DB that is being closed it shows nothing, and Err says so.
func (s *Space) View() *View {
	for {
		now := s.d.view.Load()
		if now == nil {
			return &View{err: s.d.over()}
		}
		for n := now.refs.Load(); n > 0; n = now.refs.Load() {
			if now.refs.CompareAndSwap(n, n+1) {
				return &View{s: now, prefix: s.prefix}
			}
		}
	}
}

// Close ends the view.
func (v *View) Close() {
	if v.s != nil {
		v.s.release()
		v.s = nil
	}
}

// Err is the first error that a Scan ended early with.
func (v *View) Err() error { return v.err }

// Get answers nil, false for a key that is absent.
func (v *View) Get(key []byte) (value []byte, ok bool, err error) {
	if v.s == nil {
		return nil, false, v.err
	}
	return get(v.s, within(v.prefix, key))
}

func get(r pebble.Reader, key []byte) ([]byte, bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, damaged(tablesOf, err)
	}
	value := append(make([]byte, 0, len(v)), v...)
	return value, true, closer.Close()
}

// Scan goes over the keys from from to below to, in order. A to of nil means the end. Keys and values are only lent until the
// next one. Err says whether it came to the end.
func (v *View) Scan(from, to []byte) iter.Seq2[[]byte, []byte] {
	if v.s == nil {
		return func(func([]byte, []byte) bool) {}
	}
	return scan(v.s, v.prefix, from, to, &v.err)
}

func scan(r pebble.Reader, prefix, from, to []byte, failed *error) iter.Seq2[[]byte, []byte] {
	fail := func(err error) {
		if *failed == nil {
			*failed = damaged(tablesOf, err)
		}
	}
	end := After(prefix)
	if to != nil {
		end = within(prefix, to)
	}
	return func(yield func(key, value []byte) bool) {
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: within(prefix, from), UpperBound: end})
		if err != nil {
			fail(err)
			return
		}
		defer func() { fail(it.Close()) }()
		for ok := it.First(); ok; ok = it.Next() {
			value, err := it.ValueAndErr()
			if err != nil {
				fail(err)
				return
			}
			if !yield(it.Key()[len(prefix):], value) {
				return
			}
		}
	}
}
