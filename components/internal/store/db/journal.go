package db

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	file   vfs.File // nil: the segment cannot be used any more, or there is none yet
	size   int64
	filled int64  // up to here the file has blocks: to sync what is written over them changes nothing else
	next   uint64 // sequence number
	last   uint64 // the last that was a commit
	synced uint64 // up to here all is on the disk
	noted  uint64 // the segment that a file's name says there is; 0: there is no such file
	old    []uint64
	spare  []uint64 // segments that may be written over
	buffer []byte
	flush  func() error // puts all that was committed into the tables
}

// noteName begins the name of an empty file that ends with the number of the newest segment, or of one before it: a later one that is gone as a
// whole would not be missed.
const noteName = "newest."

// draft is what the name of a segment that is being begun ends with.
const draft = ".new"

func segmentName(number uint64) string { return fmt.Sprintf("%012d.journal", number) }

func (j *journal) path(number uint64) string { return j.fs.PathJoin(j.dir, segmentName(number)) }

// ready makes sure that there is a segment with room; the next commit has then the number next.
func (j *journal) ready() error {
	if j.file != nil && j.size < segmentBytes {
		return nil
	}
	return j.rotate()
}

// commit writes a payload, and syncs it if it is to be on the disk. After an error nothing more is written to the segment.
func (j *journal) commit(payload []byte, disk bool) error {
	seq := j.next
	if err := j.append(payload); err != nil {
		return err
	}
	if disk {
		if err := j.sync(); err != nil {
			j.next = seq // the segment that follows makes what was written void
			return err
		}
	}
	j.last = seq
	return nil
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
		j.abandon()
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
	if err := j.file.SyncData(); err != nil {
		j.abandon() // what was written may be gone: the system keeps it no longer
		return &unsynced{err}
	}
	j.synced = j.next - 1
	return nil
}

// unsynced is an error after which it is not known whether what was written is there.
type unsynced struct{ error }

func (u *unsynced) Unwrap() error { return u.error }

// abandon ends the use of a segment.
func (j *journal) abandon() {
	_ = j.file.Close() // it has failed already
	j.file = nil
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
	j.note(number)
	if j.file != nil {
		j.abandon()
	}
	if j.number > 0 {
		j.old = append(j.old, j.number)
	}
	j.number, j.file, j.size, j.filled = number, f, int64(len(head)), int64(len(head))
	if info, err := f.Stat(); err == nil { // it may have been a segment before
		j.filled = max(j.filled, info.Size())
	}
	j.next++
	return nil
}

// note says that there is a segment of the number, when that is on the disk. It need not be on the disk itself: an older one does no harm.
func (j *journal) note(number uint64) {
	name := func(n uint64) string { return j.fs.PathJoin(j.dir, fmt.Sprintf("%s%012d", noteName, n)) }
	if j.noted == 0 || j.fs.Rename(name(j.noted), name(number)) != nil {
		f, err := j.fs.Create(name(number), "journal")
		if err != nil {
			return // the one before is left
		}
		_ = f.Close() // nothing was written
	}
	j.noted = number
}

// noted is the newest segment that the folder is said to have; 0 if nothing is said.
func noted(fs vfs.FS, dir string) (newest uint64, err error) {
	names, err := fs.List(dir)
	for _, name := range names {
		text, ok := strings.CutPrefix(name, noteName)
		if n, err := strconv.ParseUint(text, 10, 64); ok && err == nil {
			newest = max(newest, n)
		}
	}
	return newest, err
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
	if j.file == nil {
		return nil
	}
	if err := j.append(nil); err != nil {
		return err
	}
	if err := j.sync(); err != nil {
		return err
	}
	if j.seal(); j.file == nil {
		return nil // it failed, and is only missed when the last commit is damaged
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// beginJournal makes the journal that goes on after the commit of the number applied: a store always has one.
func beginJournal(files vfs.FS, dir string, applied uint64) error {
	j := &journal{fs: files, dir: dir, next: applied + 1, last: applied, synced: applied}
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
