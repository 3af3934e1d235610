package db

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// Look shows see the value of a key, which is lent to it until it returns, and tells whether there is one.
func (v *View) Look(key []byte, see func(value []byte)) (there bool, err error) {
	if v.s == nil {
		return false, v.err
	}
	return look(v.s, within(v.prefix, key), see)
}

// Look shows see the value of a key, which is lent to it until it returns, and tells whether there is one.
func (t *Tx) Look(key []byte, see func(value []byte)) (there bool, err error) {
	key = within(t.prefix, key)
	if i, written := t.index[string(key)]; written {
		w := t.writes[i]
		if !w.deleted {
			see(w.value)
		}
		return !w.deleted, nil
	}
	return look(t.all, key, see)
}

func look(r pebble.Reader, key []byte, see func(value []byte)) (bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, damaged(tablesOf, err)
	}
	see(v)
	return true, closer.Close()
}
