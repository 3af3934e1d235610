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
	copyWords   = ", a copy" // see raise
	engine      = pebble.FormatWALSyncChunks
)

// ErrNewer is of a store that a later version has written. Nothing of it is touched. It is a components.ErrPrecondition.
var ErrNewer = fmt.Errorf("%w: the store was written by a later version of outrigger", components.ErrPrecondition)

// checkFormat tells whether there is a store that can be read. A folder without one is none, and so is one in which a store was being
// made: nothing was ever acknowledged of that.
func checkFormat(files vfs.FS, dir string) (there bool, err error) {
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(names) == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	path := files.PathJoin(dir, formatFile)
	data, err := readFile(files, path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && slices.Contains(names, formatFile+draft):
		return false, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, &Damage{File: path, Offset: -1, Err: errors.New("it is missing, and the folder is not empty")}
	case err != nil:
		return false, err
	}
	text, ok := strings.CutPrefix(strings.TrimSuffix(string(data), "\n"), formatWords)
	text = strings.TrimSuffix(text, copyWords)
	n, err := strconv.Atoi(text)
	switch {
	case !ok || err != nil || n < 1:
		return false, &Damage{File: path, Err: fmt.Errorf("%.40q does not name a format", data)}
	case n > format:
		return false, fmt.Errorf("%s: %w: format %d, and this one knows %d; use that version", dir, ErrNewer, n, format)
	}
	if err := checkMarkers(files, dir, names); err != nil {
		return false, err
	}
	return true, nil
}

// The engine says in the names of empty files of which format its files are, and which of them is the list of tables.
const (
	marker         = "marker."
	versionMarker  = marker + "format-version."
	manifestMarker = marker + "manifest."
)

// checkMarkers finds out what the engine would take for a folder without tables, or could not read.
func checkMarkers(files vfs.FS, dir string, names []string) error {
	for _, needed := range []string{versionMarker, manifestMarker} {
		if !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, needed) }) {
			return &Damage{File: files.PathJoin(dir, needed+"*"), Offset: -1, Err: errors.New("it is missing, and there is a store")}
		}
	}
	for _, name := range names {
		text, ok := strings.CutPrefix(name, versionMarker)
		_, version, _ := strings.Cut(text, ".")
		if n, err := strconv.Atoi(version); ok && err == nil && n > int(engine) {
			return fmt.Errorf("%s: %w: its tables are of format %d, and this one knows %d; use that version", dir, ErrNewer, n, engine)
		}
	}
	d, err := pebble.Peek(dir, files)
	if err != nil {
		return &Damage{File: dir, Offset: -1, Err: err}
	}
	if !d.Exists || d.FormatMajorVersion == pebble.FormatDefault {
		return &Damage{File: dir, Offset: -1, Err: errors.New("the engine does not find its tables")}
	}
	return nil
}

// beginFormat marks a folder as one in which a store is being made; with copyWords it is to be a copy.
func beginFormat(files vfs.FS, dir, words string) error {
	f, err := files.Create(files.PathJoin(dir, formatFile+draft), "format")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s%d%s\n", formatWords, format, words)
	return errors.Join(err, f.Sync(), f.Close(), syncDir(files, dir))
}

// endFormat says that a store is there: the last thing that is done for a new one.
func endFormat(files vfs.FS, dir string) error {
	path := files.PathJoin(dir, formatFile)
	if err := files.Rename(path+draft, path); err != nil {
		return err
	}
	return syncDir(files, dir)
}

// MakeDir makes a folder of the machine, and those above it that are missing, so that they are there after a loss of power, too.
func MakeDir(dir string) error { return makeDir(vfs.Default, dir) }

func makeDir(files vfs.FS, dir string) error {
	above := files.PathDir(dir)
	if _, err := files.Stat(dir); err == nil || above == dir {
		return err
	}
	if err := makeDir(files, above); err != nil {
		return err
	}
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(files, above)
}
