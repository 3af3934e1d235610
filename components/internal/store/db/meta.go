package db

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// The store's own keys. Those of a Space begin with its name, which has no byte below 0x20.
var (
	keyLastID = []byte("\x00id") // that may have been given out
	keyTime   = []byte("\x00time")
	// keySequence has the number of the last commit in the tables.
	keySequence = []byte("\x00seq")
	keyRaised   = []byte("\x00raised") // by how much its numbers were: see Space.Raised
)

// recover brings the commits of the journal into the tables, and reads the store's own state.
func (d *DB) recover(payloads [][]byte) error {
	for _, payload := range payloads {
		if err := d.redo(payload); err != nil {
			return err
		}
	}
	last, err := number(d.pebble, keyLastID)
	if err != nil {
		return err
	}
	d.lastID.Store(last)
	d.reserved = last
	if d.raised, err = number(d.pebble, keyRaised); err != nil {
		return err
	}
	noted, _, err := get(d.pebble, keyTime)
	if err != nil {
		return err
	}
	d.clock = resume(d.opts.Clock, noted)
	return nil
}

func (d *DB) redo(payload []byte) error {
	b := d.pebble.NewBatch()
	if err := b.SetRepr(payload); err != nil {
		return errors.Join(err, b.Close())
	}
	return errors.Join(b.Commit(pebble.NoSync), b.Close())
}

// idsAhead is how many are reserved at once.
const idsAhead = 1024

// reserveIDs adds to a commit, if need be, up to which number ids may have been given out from now on, and answers it. Such a commit
// goes to the disk, or else the loss of power could give an id again.
func (d *DB) reserveIDs(b *pebble.Batch) (reserved uint64, err error) {
	last := d.lastID.Load()
	if last <= d.reserved {
		return d.reserved, nil
	}
	reserved = last + idsAhead
	return reserved, b.Set(keyLastID, binary.BigEndian.AppendUint64(nil, reserved), nil)
}

// number reads one; 0 if it was never written.
func number(r pebble.Reader, key []byte) (uint64, error) {
	v, there, err := get(r, key)
	if err != nil || !there {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("the store's own key %q has %d bytes", key, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}
