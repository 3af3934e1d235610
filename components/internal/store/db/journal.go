package db

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// segmentBytes is where a segment of the journal ends.
const segmentBytes = 4 << 20

// journal is the log of what was committed and may not be in the tables yet, in segments of a few MiB. The engine's own log
// is not used: it takes damage of its last 32 KiB for the end, cannot tell what was synced from what was only written, and ends
// the process when the disk is full. Used by the goroutine that writes alone.
//
// Each segment begins with a record whose payload is the number of the last commit before it. What an older segment has beyond
// that was never acknowledged.
type journal struct {
	fs     vfs.FS
	dir    string
	number uint64   // of the segment
	file   vfs.File // nil: nothing more is written to the segment, or there is none yet
	size   int64
	filled int64      // up to here the file has blocks: to sync what is written over them changes nothing else
	next   uint64     // sequence number
	last   uint64     // the last that was a commit
	synced uint64     // up to here all is on the disk
	hands  []vfs.File // of the segment, one for each sync that may be under way: the system tells each once what failed
	notes  notes
	old    []uint64
	spare  []uint64 // segments that may be written over
	buffer []byte
	flush  func() error // puts all that was committed into the tables
}

// draft is what the name of a segment that is being begun ends with.
const draft = ".new"

func segmentName(number uint64) string { return fmt.Sprintf("%012d.journal", number) }

func (j *journal) path(number uint64) string { return j.fs.PathJoin(j.dir, segmentName(number)) }

// ready makes sure that there is a segment with room; the next commit has then the number next.
func (j *journal) ready() error {
	if !j.ends() {
		return nil
	}
	return j.rotate()
}

// ends tells whether the next commit needs a new segment, which is begun when nothing of this one is on its way to the disk any more.
func (j *journal) ends() bool { return j.file == nil || j.size >= segmentBytes }

// commit writes a payload. After an error nothing more is written to the segment. The mark is what of the journal is to be on the disk for it.
func (j *journal) commit(payload []byte) (mark, error) {
	if err := j.append(payload); err != nil {
		return mark{}, err
	}
	j.last = j.next - 1
	return j.mark(), nil
}

// mark is a place in the newest segment.
type mark struct {
	segment uint64
	synced  uint64 // the number of the last record before it
	size    int64  // of the file
}

func (j *journal) mark() mark { return mark{j.number, j.next - 1, j.filled} }

// reached takes note that all up to a mark is on the disk.
func (j *journal) reached(m mark) {
	j.synced = m.synced
	j.notes.write(m)
}

// seal writes that all so far is on the disk, so that damage to the last commit is told from an end.
func (j *journal) seal() {
	if j.file != nil && j.synced == j.next-1 {
		_ = j.append(nil) // if that fails, the next commit begins another segment
	}
}

func (j *journal) append(payload []byte) error {
	j.buffer = appendRecord(j.buffer[:0], j.number, entry{j.next, j.synced, payload})
	if cap(j.buffer) > 1<<20 {
		defer func() { j.buffer = nil }()
	}
	if err := j.fill(int64(len(j.buffer))); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if _, err := j.file.Write(j.buffer); err != nil {
		j.file = nil
		return fmt.Errorf("write the journal: %w", err)
	}
	j.size += int64(len(j.buffer))
	j.next++
	return nil
}

// fillBytes is how far ahead of what is written the segment is filled with zeros. A sync is twice as fast then.
const fillBytes = 128 << 10

var zeros [fillBytes]byte

// fill makes sure that so many bytes can be written over.
func (j *journal) fill(n int64) error {
	for j.filled < j.size+n {
		if _, err := j.file.WriteAt(zeros[:], j.filled); err != nil {
			return err
		}
		j.filled += fillBytes
	}
	return nil
}

func (j *journal) sync() error {
	m := j.mark()
	if err := j.file.SyncData(); err != nil {
		j.file = nil // what was written may be gone: the system keeps it no longer
		return &unsynced{err}
	}
	j.reached(m)
	return nil
}

// unsynced is an error after which it is not known whether what was written is there.
type unsynced struct{ error }

func (u *unsynced) Unwrap() error { return u.error }

// release lets go of the segment.
func (j *journal) release() (err error) {
	for _, f := range j.hands {
		err = errors.Join(err, f.Close())
	}
	j.file, j.hands = nil, nil
	return err
}

// rotate begins a segment. What it needs of the old ones is on the disk when it has.
func (j *journal) rotate() error {
	if j.synced < j.last {
		if err := j.settle(); err != nil {
			return err
		}
	}
	number := j.number + 1
	head := appendRecord(nil, number, entry{j.next, j.synced, binary.LittleEndian.AppendUint64(nil, j.last)})
	f, err := j.begin(number, head)
	if err != nil {
		return fmt.Errorf("begin a segment of the journal: %w", err)
	}
	_ = j.release() // what is needed of it is on the disk
	if j.number > 0 {
		j.old = append(j.old, j.number)
	}
	j.number, j.file, j.size, j.filled = number, f, int64(len(head)), int64(len(head))
	if info, err := f.Stat(); err == nil { // it may have been a segment before
		j.filled = max(j.filled, info.Size())
	}
	j.hands = []vfs.File{f}
	if twin, err := j.fs.OpenReadWrite(j.path(number), "journal"); err == nil {
		j.hands = append(j.hands, twin)
	}
	j.next++
	j.notes.write(mark{number, j.synced, int64(len(head))})
	return nil
}

// settle makes sure that what is not yet on the disk gets there before the next segment says so.
func (j *journal) settle() error {
	if j.file != nil {
		return j.sync()
	}
	if err := j.flush(); err != nil {
		return err
	}
	j.synced = j.last
	return nil
}

// begin makes the file of a segment. It gets its name when its head is on the disk: one whose head cannot be read is damaged.
func (j *journal) begin(number uint64, head []byte) (vfs.File, error) {
	unnamed := j.path(number) + draft
	f, err := j.create(unnamed)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(head); err == nil {
		err = f.SyncData()
	}
	if err == nil {
		err = j.fs.Rename(unnamed, j.path(number))
	}
	if err == nil {
		err = syncDir(j.fs, j.dir)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// create opens a file over one that is no longer needed, if there is one: that needs no room, and syncs faster.
func (j *journal) create(path string) (vfs.File, error) {
	for len(j.spare) > 0 {
		spare := j.spare[0]
		j.spare = j.spare[1:]
		if f, err := j.fs.ReuseForWrite(j.path(spare), path, "journal"); err == nil {
			return f, nil
		}
	}
	return j.fs.Create(path, "journal")
}

// obsolete says that nothing of these segments is needed any more.
func (j *journal) obsolete(numbers []uint64) {
	for _, n := range numbers {
		if len(j.spare) < 2 {
			j.spare = append(j.spare, n)
			continue
		}
		_ = j.fs.Remove(j.path(n)) // what stays behind is ignored, and removed at the next start
	}
}

// close leaves the journal with everything in it on the disk.
func (j *journal) close() error {
	defer func() { _ = errors.Join(j.release(), j.notes.close()) }() // all that matters is on the disk, or the error says that it is not
	if j.file == nil {
		return nil
	}
	if err := j.append(nil); err != nil {
		return err
	}
	if err := j.sync(); err != nil {
		return err
	}
	j.seal() // if it fails it is only missed when the last commit is damaged
	return nil
}

// beginJournal makes the journal that goes on after the commit of the number applied: a store always has one.
func beginJournal(files vfs.FS, dir string, applied uint64) error {
	j := &journal{fs: files, dir: dir, next: applied + 1, last: applied, synced: applied, notes: notes{fs: files, dir: dir}}
	if err := j.rotate(); err != nil {
		return err
	}
	return j.close()
}

// segments are the numbers of those in the folder, in order.
func segments(fs vfs.FS, dir string) (numbers []uint64, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var n uint64
		if _, err := fmt.Sscanf(name, "%d.journal", &n); err == nil && name == segmentName(n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
