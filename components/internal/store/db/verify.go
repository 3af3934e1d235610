package db

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
)

// Verify reads everything in a folder that nobody has open, and changes nothing. Its error is a *Damage for what cannot be read.
func Verify(o Options) error {
	o = o.withDefaults()
	there, err := checkFormat(o.FS, o.Dir)
	if err == nil && !there {
		err = missing(o.Dir)
	}
	if err != nil {
		return err
	}
	_, err = survey(o, 1<<62)
	return err
}

func missing(dir string) error {
	return fmt.Errorf("%w: there is no store in %s", components.ErrNotFound, dir)
}

// tablesAtOpen is how much of the tables is read to the last byte before the store is opened.
const tablesAtOpen = 32 << 20

// survey looks at a store that is there, without changing anything: the list of tables is whole, the tables are those of the
// list and, up to so many bytes, as they were written, and the journal goes on where they end.
func survey(o Options, bytes int64) (replayed, error) {
	d, err := pebble.Peek(o.Dir, o.FS)
	if err != nil {
		return replayed{}, damaged(o.Dir, err)
	}
	manifest := o.FS.PathJoin(o.Dir, o.FS.PathBase(d.ManifestFilename))
	tail, err := checkManifest(o.FS, manifest)
	if err == nil && d.OptionsFilename != "" {
		err = o.checkOptions(o.FS.PathJoin(o.Dir, o.FS.PathBase(d.OptionsFilename)))
	}
	if err != nil {
		return replayed{}, err
	}
	var found replayed
	applied, err := o.checkTables(bytes)
	if err == nil {
		found, err = replay(o.FS, o.Dir, applied)
	}
	if tail >= 0 && errors.Is(err, errGone) { // it goes with what the list says no more
		err = &Damage{File: manifest, Offset: tail, Err: errRecord}
	}
	return found, err
}

// checkTables reads so many bytes of the tables; applied is the number of the last commit in them.
func (o Options) checkTables(bytes int64) (applied uint64, err error) {
	files := &tableFS{FS: o.FS}
	p, err := o.openEngine(files, func(error) {}, true)
	if err != nil {
		return 0, err
	}
	answer := make(chan error, 1)
	go contain(func() error {
		err := readTables(files, o.Dir, p, bytes)
		if err == nil {
			applied, err = number(p, keySequence)
		}
		return errors.Join(err, p.Close())
	}, answer)
	return applied, damaged(o.Dir, <-answer)
}

// tablesOf is what is named where it is not known which file is damaged.
const tablesOf = "one of the store's tables"

// damaged makes a Damage of an error of the engine that is one, of the file given if the engine names none.
func damaged(file string, err error) error {
	if d := (*Damage)(nil); errors.As(err, &d) {
		return err
	}
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return &Damage{File: info.Path, Offset: offsetIn(err), Err: err}
	}
	if pebble.IsCorruptionError(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist) {
		return &Damage{File: file, Offset: -1, Err: err}
	}
	return err
}

// unlisted makes a Damage of what the engine says of a table that is missing, or is not of the size that the list of tables has.
func (o Options) unlisted(err error) error {
	if err == nil {
		return nil
	}
	found := tableOfList.FindStringSubmatch(err.Error())
	if found == nil {
		return damaged(o.Dir, err)
	}
	path := o.FS.PathJoin(o.Dir, found[1]+tableSuffix)
	info, failed := o.FS.Stat(path)
	if errors.Is(failed, fs.ErrNotExist) {
		return missingTable(path)
	}
	var is, was int64
	if _, wrong := fmt.Sscanf(found[2], "%d (disk) != %d (MANIFEST)", &is, &was); failed != nil || wrong != nil {
		return damaged(path, err)
	}
	return &Damage{File: path, Offset: min(info.Size(), was), Err: fmt.Errorf("it has %d bytes, and had %d", is, was)}
}

var tableOfList = regexp.MustCompile(`L\d: (\d{6,}): (?:object size mismatch \(.*?\): )?(.*)`)

func missingTable(path string) error {
	return &Damage{File: path, Offset: -1, Err: fmt.Errorf("%w: %w", errGone, pebble.ErrCorruption)}
}

// checkOptions finds damage in what the engine noted of its options that would keep it from opening the tables.
func (o Options) checkOptions(path string) error {
	data, err := readFile(o.FS, path)
	if err != nil {
		return &Damage{File: path, Offset: -1, Err: err}
	}
	e := o.engine(&tableFS{FS: o.FS}, logger{}, true)
	e.EnsureDefaults()
	whole := e.CheckCompatibility(o.Dir, string(data))
	if whole == nil {
		return nil
	}
	at := 0
	for line := range strings.Lines(string(data)) {
		if err := e.CheckCompatibility(o.Dir, string(data[:at+len(line)])); err != nil {
			break
		}
		at += len(line)
	}
	return &Damage{File: path, Offset: int64(at), Err: whole}
}

// checkManifest finds damage in the list of tables that the engine would take for its end. tail is where the list ends if what follows was
// being written, or is damaged; -1 if nothing follows.
func checkManifest(files vfs.FS, path string) (tail int64, err error) {
	data, err := readFile(files, path)
	if err != nil {
		return -1, &Damage{File: path, Offset: -1, Err: err}
	}
	at, whole := endOfChunks(data)
	switch {
	case whole:
		return -1, nil
	case at == 0 || chunkAfter(data, at+1):
		return -1, &Damage{File: path, Offset: int64(at), Err: errRecord}
	}
	return int64(at), nil // an edit that was being written; the journal still has what it was about
}

// Chunks of the engine's record format do not cross the borders of blocks.
const (
	chunkHead  = 7 // checksum uint32 | length uint16 | kind uint8
	chunkBlock = 32 << 10
)

// chunkAt is the length of the chunk at a place, with its head; 0 if there is none.
func chunkAt(data []byte, at int) int {
	if at+chunkHead >= len(data) {
		return 0
	}
	n := int(binary.LittleEndian.Uint16(data[at+4:]))
	end := at + chunkHead + n
	if kind := data[at+6]; n == 0 || kind == 0 || kind > 4 || end > len(data) || at%chunkBlock+chunkHead+n > chunkBlock {
		return 0
	}
	if binary.LittleEndian.Uint32(data[at:]) != masked(data[at+6:end]) {
		return 0
	}
	return chunkHead + n
}

// endOfChunks is where the first place is at which there is no chunk, and whether that is the end of the data.
func endOfChunks(data []byte) (at int, whole bool) {
	for at < len(data) {
		if left := chunkBlock - at%chunkBlock; left < chunkHead {
			at += left
			continue
		}
		n := chunkAt(data, at)
		if n == 0 {
			return at, false
		}
		at += n
	}
	return at, true
}

// chunkAfter tells whether there is a chunk that begins at from or after it.
func chunkAfter(data []byte, from int) bool {
	for ; from < len(data); from++ {
		if chunkAt(data, from) > 0 {
			return true
		}
	}
	return false
}

// readTables reads the tables of the list. Others may be there that were not finished, or are no longer needed.
func readTables(files vfs.FS, dir string, p *pebble.DB, bytes int64) error {
	levels, err := p.SSTables()
	if err != nil {
		return err
	}
	for _, level := range levels {
		for _, table := range level {
			if bytes <= 0 {
				return nil
			}
			n, err := readTable(files, files.PathJoin(dir, fmt.Sprintf("%06d%s", table.FileNum, tableSuffix)))
			if err != nil {
				return err
			}
			bytes -= n
		}
	}
	return nil
}

func readTable(files vfs.FS, path string) (int64, error) {
	f, err := files.Open(path)
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(context.Background(), readable, sstable.ReaderOptions{})
	if err != nil {
		return 0, errors.Join(damagedAt(path, max(0, info.Size()-tableEnd), err), readable.Close())
	}
	if err := errors.Join(r.ValidateBlockChecksums(), r.Close()); err != nil {
		return 0, damagedAt(path, -1, err)
	}
	return info.Size(), nil
}

// tableEnd is how much at the end of a table leads to the rest of it, at most.
const tableEnd = 61

// damagedAt makes a Damage of an error, at a place if it does not name one.
func damagedAt(path string, at int64, err error) error {
	if d := (*Damage)(nil); errors.As(err, &d) {
		return d
	}
	return &Damage{File: path, Offset: at, Err: err}
}

// offsetIn is that of the block which the engine's error names.
func offsetIn(err error) (at int64) {
	_, text, _ := strings.Cut(err.Error(), "block ")
	if _, err := fmt.Sscanf(text, "%d/", &at); err != nil {
		return -1
	}
	return at
}
