package db

import (
	"encoding/binary"
	"errors"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// notes is the file that says what the newest segment of the journal has: that it is there, how many bytes, and up to which record all was
// acknowledged. Without that a segment that is gone, or whose end is, would not be missed: it is the last, and what is unwritten of it does
// not count.
//
// It need not be on the disk itself: what it said before does no harm. It has two notes, in a sector each, that are written in turn, and
// the later one counts: a note that cannot be read, as the power went while it was written, says nothing.
type notes struct {
	fs      vfs.FS
	dir     string
	file    vfs.File // nil: it is not open
	written uint64
}

const (
	notesFile  = "newest"
	noteSector = 512
)

// A note is a record of the journal's form, whose segment is 0 and whose number says how many notes there were:
//
//	segment uint64 | number of the last record that is on the disk uint64 | bytes on the disk uint64

func (m mark) append(b []byte, written uint64) []byte {
	payload := binary.LittleEndian.AppendUint64(nil, m.segment)
	payload = binary.LittleEndian.AppendUint64(payload, m.synced)
	payload = binary.LittleEndian.AppendUint64(payload, uint64(m.size))
	return appendRecord(b, 0, entry{seq: written, payload: payload})
}

// write notes a mark. If that fails, the one before is left.
func (n *notes) write(m mark) {
	if n.file == nil && n.open() != nil {
		return
	}
	n.written++
	if _, err := n.file.WriteAt(m.append(nil, n.written), int64(n.written%2)*noteSector); err != nil {
		_ = n.close()
	}
}

func (n *notes) open() (err error) {
	path := n.fs.PathJoin(n.dir, notesFile)
	if _, n.written, err = readNotes(n.fs, n.dir); err != nil {
		return err
	}
	if n.file, err = n.fs.OpenReadWrite(path, "journal"); err != nil {
		n.file = nil
	}
	return err
}

func (n *notes) close() (err error) {
	if n.file != nil {
		err = n.file.Close()
		n.file = nil
	}
	return err
}

// readNotes is the later note of a folder, and how many there were; none if there is no file, or nothing in it can be read.
func readNotes(files vfs.FS, dir string) (m mark, written uint64, err error) {
	data, err := readFile(files, files.PathJoin(dir, notesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, 0, nil
	}
	for at := 0; at < len(data) && at <= noteSector; at += noteSector {
		if r, n := recordAt(data[at:], 0); n > 0 && len(r.payload) == 24 && r.seq > written {
			number := func(i int) uint64 { return binary.LittleEndian.Uint64(r.payload[i:]) }
			m, written = mark{number(0), number(8), int64(number(16))}, r.seq
		}
	}
	return m, written, err
}
