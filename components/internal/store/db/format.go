package db

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
)

// format is the version of what is in the folder: of the journal's records, of the store's own keys, and of the engine's files.
const format = 1

const (
	formatFile  = "format"
	formatWords = "outrigger store, format "
	engine      = pebble.FormatWALSyncChunks
)

// ErrNewer is of a store that a later version has written. Nothing of it is touched. It is a components.ErrPrecondition.
var ErrNewer = fmt.Errorf("%w: the store was written by a later version of outrigger", components.ErrPrecondition)

// checkFormat tells whether there is a store that can be read; a folder without one is none.
func checkFormat(files vfs.FS, dir string) (there bool, err error) {
	path := files.PathJoin(dir, formatFile)
	data, err := readFile(files, path)
	if errors.Is(err, fs.ErrNotExist) {
		names, err := files.List(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(names, func(name string) bool { return !strings.HasSuffix(name, draft) }) {
			return false, &Damage{File: path, Offset: -1, Err: errors.New("it is missing, and the folder is not empty")}
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	text, ok := strings.CutPrefix(strings.TrimSuffix(string(data), "\n"), formatWords)
	n, err := strconv.Atoi(text)
	switch {
	case !ok || err != nil || n < 1:
		return false, &Damage{File: path, Err: fmt.Errorf("%.40q does not name a format", data)}
	case n > format:
		return false, fmt.Errorf("%s: %w: format %d, and this one knows %d; use that version", dir, ErrNewer, n, format)
	}
	d, err := pebble.Peek(dir, files)
	if err != nil {
		return false, &Damage{File: dir, Offset: -1, Err: err}
	}
	if d.Exists && d.FormatMajorVersion > engine {
		return false, fmt.Errorf("%s: %w: its tables are of format %d, and this one knows %d; use that version", dir, ErrNewer, d.FormatMajorVersion, engine)
	}
	return d.Exists, nil
}

// writeFormat is the first thing that is written to a new folder.
func writeFormat(files vfs.FS, dir string) error {
	path := files.PathJoin(dir, formatFile)
	f, err := files.Create(path+draft, "format")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s%d\n", formatWords, format)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := files.Rename(path+draft, path); err != nil {
		return err
	}
	return syncDir(files, dir)
}
