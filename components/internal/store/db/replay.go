package db

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
)

// Damage says which file cannot be read as it was written. It is a components.ErrDamaged.
type Damage struct {
	File   string
	Offset int64 // -1: it is not known where
	Err    error
}

func (d *Damage) Error() string {
	if d.Offset < 0 {
		return fmt.Sprintf("%s is damaged: %v", d.File, d.Err)
	}
	return fmt.Sprintf("%s is damaged at byte %d: %v", d.File, d.Offset, d.Err)
}

// Is makes it one of its kind.
func (d *Damage) Is(target error) bool { return target == components.ErrDamaged }

func (d *Damage) Unwrap() error { return d.Err }

var errRecord = errors.New("what was written here cannot be read")

// errGone is of files that the list of tables has, or that go on where the tables end, and are not there.
var errGone = errors.New("it is missing")

// segment is one of which the head was read.
type segment struct {
	number uint64
	path   string
	data   []byte
	base   uint64 // the number of its first record, which is the head
	before uint64 // the last commit before it; later than any if the head cannot be read
}

func (s *segment) read(fs vfs.FS) (err error) {
	if s.data, err = readFile(fs, s.path); err != nil {
		return err
	}
	r, n := recordAt(s.data, s.number)
	if n == 0 || len(r.payload) != 8 {
		return &Damage{File: s.path, Err: errRecord}
	}
	s.base, s.before = r.seq, binary.LittleEndian.Uint64(r.payload)
	return nil
}

// needed are the segments that have something after the commit applied, of those with the numbers given.
func needed(fs vfs.FS, dir string, numbers []uint64, applied uint64) (all []segment, err error) {
	for i := len(numbers) - 1; i >= 0; i-- {
		s := segment{number: numbers[i], path: fs.PathJoin(dir, segmentName(numbers[i]))}
		if err := s.read(fs); err != nil {
			return nil, err
		}
		all = append(all, s)
		if s.before <= applied {
			slices.Reverse(all)
			return all, nil
		}
	}
	if len(all) > 0 {
		return nil, &Damage{File: all[len(all)-1].path, Offset: -1, Err: fmt.Errorf(
			"it begins after commit %d, and the tables end with %d: what was between: %w", all[len(all)-1].before, applied, errGone)}
	}
	return nil, &Damage{File: fs.PathJoin(dir, "*.journal"), Offset: -1, Err: errors.New("it is missing, and there is a store")}
}

// replayed is what was found in the journal.
type replayed struct {
	numbers    []uint64 // of all segments
	next, last uint64
	payloads   [][]byte // of the commits after the tables
}

// replay reads the commits after that of the number applied, in order. It changes nothing.
func replay(fs vfs.FS, dir string, applied uint64) (out replayed, err error) {
	out = replayed{next: applied + 1, last: applied}
	if out.numbers, err = segments(fs, dir); err != nil {
		return out, err
	}
	noted, _, err := readNotes(fs, dir)
	if err != nil {
		return out, err
	}
	if n := len(out.numbers); n > 0 && noted.segment > out.numbers[n-1] {
		return out, &Damage{File: fs.PathJoin(dir, segmentName(noted.segment)), Offset: -1, Err: errGone}
	}
	all, err := needed(fs, dir, out.numbers, applied)
	if err != nil {
		return out, err
	}
	if last := all[len(all)-1]; last.number == noted.segment && int64(len(last.data)) < noted.size {
		return out, &Damage{File: last.path, Offset: int64(len(last.data)), Err: fmt.Errorf("it ends here, and had %d bytes", noted.size)}
	}
	for i := range all {
		end := ^uint64(0) // what comes after that does not count
		must := uint64(0) // what has to be there
		if i+1 < len(all) {
			end, must = all[i+1].base, all[i+1].before
		} else if all[i].number == noted.segment {
			must = noted.synced
		}
		if err := out.read(&all[i], end, must, applied); err != nil {
			return out, err
		}
	}
	out.next = max(out.next, applied+1) // the tables may have more than what of the journal was synced
	return out, nil
}

func (out *replayed) read(s *segment, end, must, applied uint64) error {
	out.next = s.base
	for at := 0; out.next < end; {
		r, n := recordAt(s.data[at:], s.number)
		if n == 0 || r.seq != out.next {
			if must >= out.next || promised(s.data[at:], s.number, out.next) {
				return &Damage{File: s.path, Offset: int64(at), Err: errRecord}
			}
			return nil
		}
		if at > 0 && len(r.payload) > 0 {
			if r.seq > applied {
				out.payloads = append(out.payloads, r.payload)
			}
			out.last = max(out.last, r.seq)
		}
		out.next++
		at += n
	}
	return nil
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}
