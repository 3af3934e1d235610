package db

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
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
	if err := checkManifest(o.FS, o.Dir); err != nil {
		return replayed{}, err
	}
	p, err := o.openEngine(&tableFS{FS: o.FS}, func(error) {}, true)
	if err != nil {
		return replayed{}, err
	}
	applied, answer := uint64(0), make(chan error, 1)
	go contain(func() error {
		err := checkTables(o.FS, o.Dir, p, bytes)
		if err == nil {
			applied, err = number(p, keySequence)
		}
		return errors.Join(err, p.Close())
	}, answer)
	if err := <-answer; err != nil {
		return replayed{}, damaged(o.Dir, err)
	}
	return replay(o.FS, o.Dir, applied)
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

// checkManifest finds damage in the list of tables that the engine would take for its end.
func checkManifest(files vfs.FS, dir string) error {
	d, err := pebble.Peek(dir, files)
	if err != nil {
		return damaged(dir, err)
	}
	path := files.PathJoin(dir, files.PathBase(d.ManifestFilename))
	f, err := files.Open(path)
	if err != nil {
		return &Damage{File: path, Offset: -1, Err: err}
	}
	defer f.Close()
	r := record.NewReader(f, 0)
	for {
		at := r.Offset()
		one, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, one)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			data, readErr := readFile(files, path)
			if readErr != nil {
				return readErr
			}
			if chunkAfter(data, int(at)+1) || at == 0 {
				return &Damage{File: path, Offset: at, Err: err}
			}
			return nil // an edit that was being written; the journal still has what it was about
		}
	}
}

// chunkAfter tells whether there is a chunk of the engine's record format, beginning at from or after it.
func chunkAfter(data []byte, from int) bool {
	const head, block = 7, 32 << 10
	for ; from+head < len(data); from++ {
		n := int(binary.LittleEndian.Uint16(data[from+4:]))
		end := from + head + n
		if kind := data[from+6]; n == 0 || kind == 0 || kind > 4 || end > len(data) || from%block+head+n > block {
			continue
		}
		c := crc32.Checksum(data[from+6:end], castagnoli)
		if binary.LittleEndian.Uint32(data[from:]) == (c>>15|c<<17)+0xa282ead8 {
			return true
		}
	}
	return false
}

// checkTables reads the tables of the list. Others may be there that were not finished, or are no longer needed.
func checkTables(files vfs.FS, dir string, p *pebble.DB, bytes int64) error {
	levels, err := p.SSTables()
	if err != nil {
		return err
	}
	for _, level := range levels {
		for _, table := range level {
			if bytes <= 0 {
				return nil
			}
			n, err := checkTable(files, files.PathJoin(dir, fmt.Sprintf("%06d.sst", table.FileNum)))
			if err != nil {
				return err
			}
			bytes -= n
		}
	}
	return nil
}

func checkTable(files vfs.FS, path string) (int64, error) {
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
		return 0, &Damage{File: path, Offset: info.Size() - 1, Err: errors.Join(err, readable.Close())}
	}
	if err := errors.Join(r.ValidateBlockChecksums(), r.Close()); err != nil {
		return 0, &Damage{File: path, Offset: offsetIn(err), Err: err}
	}
	return info.Size(), nil
}

// offsetIn is that of the block which the engine's error names.
func offsetIn(err error) (at int64) {
	_, text, _ := strings.Cut(err.Error(), "block ")
	if _, err := fmt.Sscanf(text, "%d/", &at); err != nil {
		return -1
	}
	return at
}
