package db

import "encoding/binary"

// The store's own keys. Those of a Space begin with its name, which has no byte below 0x20.
var (
	keyLastID = []byte("\x00id")
	keyTime   = []byte("\x00time")
)

// recover reads the store's own state.
func (d *DB) recover() error {
	v, ok, err := get(d.pebble, keyLastID)
	if err != nil {
		return err
	}
	if ok && len(v) == 8 {
		d.lastID.Store(binary.BigEndian.Uint64(v))
	}
	noted, _, err := get(d.pebble, keyTime)
	if err != nil {
		return err
	}
	d.clock = resume(d.opts.Clock, noted)
	return nil
}
