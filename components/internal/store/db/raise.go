package db

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
)

// A copy of a store knows nothing of the numbers that the store gave out after it was made. So they are raised before the copy is used
// for the first time: by one for each nanosecond that has passed since. As long as no counter gives out more than that, what a copy
// gives out is greater than all that was given out before, by whatever it was copied from and by all other copies of that.

// markCopy says that the store in a folder is a copy, whose numbers are yet to be raised.
func markCopy(files vfs.FS, dir string) error {
	if err := beginFormat(files, dir, copyWords); err != nil {
		return err
	}
	return endFormat(files, dir)
}

// Raised is how much has to be added to a number that was written down when it was 0, so that it is greater than what others may have
// counted to on from that: copies of the store from which this one comes, and the store itself after the copy was made. It grows with
// each copy that becomes a store, and is 0 in one that is none. NextID heeds it by itself.
func (s *Space) Raised() uint64 { return s.d.raised }

// raise raises the numbers of a copy. If the process ends meanwhile that is done again.
func (d *DB) raise() error {
	o := d.opts
	words, err := readFile(o.FS, o.FS.PathJoin(o.Dir, formatFile))
	if err != nil || !strings.Contains(string(words), copyWords) {
		return err
	}
	passed := d.clock.passed()
	if passed < 0 {
		return fmt.Errorf("%w: in %s is a copy of %s, and the clock of this machine is at %s: set it", components.ErrPrecondition, o.Dir,
			d.clock.found.wall.UTC().Format(time.DateTime), d.clock.Wall().UTC().Format(time.DateTime))
	}
	d.raised += uint64(passed)
	d.lastID.Add(uint64(passed)) // which the update writes down
	if err := (&Space{d: d}).Update(context.Background(), Disk, func(tx *Tx) error {
		tx.Set(keyRaised, binary.BigEndian.AppendUint64(nil, d.raised))
		return nil
	}); err != nil {
		return err
	}
	return errors.Join(beginFormat(d.files, o.Dir, ""), endFormat(d.files, o.Dir))
}

// passed is how long it is since the last that the store has of its clock was written down, by whichever of the machine's clocks says
// more. A store that has nothing may be from whenever there were clocks.
func (s *steady) passed() time.Duration {
	if s.found == (stamp{}) {
		return time.Duration(s.Wall().UnixNano())
	}
	passed := s.Wall().Sub(s.found.wall)
	if s.found.boot == s.Boot {
		passed = max(passed, s.start-s.found.uptime)
	}
	return passed
}
