package db

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// damagedBlock is why a block is a Damage. The engine knows it for its own kind of damage.
type damagedBlock struct{ text string }

func (d damagedBlock) Error() string { return d.text }

func (damagedBlock) Unwrap() error { return pebble.ErrCorruption }

// Open checks what is read of a table: the engine would check it, too, but searches a block that is damaged for the bit that was
// flipped, which takes it seconds and more, and does not say which file it was.
func (t *tableFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := t.FS.Open(name, opts...)
	if !isTable(name) {
		return f, err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingTable(name)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &table{f, name, info.Size()}, nil
}

const tableSuffix = ".sst"

func isTable(name string) bool { return strings.HasSuffix(name, tableSuffix) }

// table is a table that is read, a block and the trailer of it at a time, and its end. Safe for concurrent use as the file is.
type table struct {
	vfs.File
	path string
	size int64
}

// blockTrailer is a byte that says how the block is compressed and a checksum of all before.
const blockTrailer = 5

// ReadAt reads a block, or the end of the table, which the engine knows to be whole or not. Its error is a Damage where the file is
// shorter than it was, or the block another.
func (t *table) ReadAt(p []byte, off int64) (int, error) {
	n, err := t.File.ReadAt(p, off)
	switch {
	case errors.Is(err, io.EOF) && n < len(p):
		return n, &Damage{File: t.path, Offset: off + int64(n), Err: damagedBlock{"it ends here, and there was more"}}
	case err != nil || off+int64(n) >= t.size || n <= blockTrailer:
		return n, err
	case binary.LittleEndian.Uint32(p[n-4:n]) != masked(p[:n-4]):
		return n, &Damage{File: t.path, Offset: off, Err: damagedBlock{errRecord.Error()}}
	}
	return n, nil
}

// masked is the checksum of the engine's files.
func masked(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}
