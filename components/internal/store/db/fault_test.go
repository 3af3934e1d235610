package db_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

var ctx = context.Background()

func set(d *db.DB, key, value string) error {
	return d.Space("test").Update(ctx, db.Disk, func(tx *db.Tx) error {
		tx.Set([]byte(key), []byte(value))
		return nil
	})
}

// contents are all keys of the space.
func contents(t *testing.T, d *db.DB) map[string]string {
	t.Helper()
	v := d.Space("test").View()
	defer v.Close()
	all := map[string]string{}
	for key, value := range v.Scan(nil, nil) {
		all[string(key)] = string(value)
	}
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// files are those of a folder, by name.
func files(t *testing.T, fs vfs.FS) map[string][]byte {
	t.Helper()
	names, err := fs.List("store")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		f, err := fs.Open("store/" + name)
		if errors.Is(err, iofs.ErrNotExist) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		if all[name], err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return all
}

func same(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }

// folder makes a file system with these files.
func folder(t *testing.T, all map[string][]byte) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("store", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range all {
		f, err := fs.Create("store/"+name, "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(slices.Clone(data)); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return fs
}

func reopen(fs vfs.FS) (*db.DB, error) {
	return db.Open(db.Options{Dir: "store", FS: fs, Logger: slog.New(slog.DiscardHandler)})
}

// written is a store with tables, several segments of the journal and commits that are only there; killed leaves it as the
// end of its process does, closed as an orderly end.
func written(t *testing.T, orderly bool) (image map[string][]byte, want map[string]string) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	d := open(t, fs)
	want = map[string]string{}
	put := func(key, value string) {
		if err := set(d, key, value); err != nil {
			t.Fatal(err)
		}
		want[key] = value
	}
	for i := range 9 {
		put(fmt.Sprintf("large-%d", i), strings.Repeat(fmt.Sprint(i%10), 500<<10))
	}
	if err := d.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		put(fmt.Sprintf("small-%d", i), fmt.Sprint(i))
	}
	if orderly {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		return files(t, fs), want
	}
	time.Sleep(20 * time.Millisecond) // the last seal is written behind the acknowledgement
	image = files(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return image, want
}

// A byte that is changed anywhere either does no harm, or keeps the store from being opened, or from being read at that place.
// Nothing that was acknowledged is ever silently missing.
func TestDamagedByteIsFoundOrHarmless(t *testing.T) {
	for name, orderly := range map[string]bool{"killed": false, "closed": true} {
		t.Run(name, func(t *testing.T) {
			image, want := written(t, orderly)
			found := map[string]int{}
			for _, file := range slices.Sorted(maps.Keys(image)) {
				kind := file[strings.LastIndexByte(file, '.')+1:]
				if strings.HasPrefix(file, "MANIFEST") {
					kind = "MANIFEST"
				}
				ends := 10
				if kind == "journal" {
					ends = 80 // the last commit and what seals it
				}
				for i, at := range places(ends, len(bytes.TrimRight(image[file], "\x00"))) { // a journal is filled with zeros to its end
					if i%everyPlace != 0 {
						continue
					}
					damaged := maps.Clone(image)
					damaged[file] = slices.Clone(image[file])
					damaged[file][at] ^= 0x40
					if checkDamaged(t, fmt.Sprintf("%s, byte %d of %d", file, at, len(image[file])), damaged, want) {
						found[kind]++
					}
				}
			}
			t.Logf("found damaged, by kind of file: %v", found)
			for _, kind := range []string{"journal", "sst", "MANIFEST", "format"} {
				if found[kind] == 0 {
					t.Errorf("no damage was found in any %s", kind)
				}
			}
		})
	}
}

// places are offsets at the beginning, at the end and between.
func places(ends, size int) (all []int) {
	for i := 0; i < size; i += max(1, size/7) {
		all = append(all, i)
	}
	for i := range min(size, ends) {
		all = append(all, i, size-1-i)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func checkDamaged(t *testing.T, where string, image map[string][]byte, want map[string]string) (found bool) {
	t.Helper()
	fs := folder(t, image)
	verified := db.Verify(db.Options{Dir: "store", FS: fs})
	if !same(files(t, fs), image) {
		t.Errorf("%s: verifying changed the files", where)
	}
	d, err := reopen(fs)
	if err != nil {
		var damage *db.Damage
		if !errors.Is(err, db.ErrNewer) && (!errors.As(err, &damage) || !errors.Is(err, components.ErrDamaged) || !strings.HasPrefix(damage.File, "store")) {
			t.Errorf("%s: %v does not name what is damaged", where, err)
		}
		if verified == nil {
			t.Errorf("%s: opening fails, and verifying found nothing: %v", where, err)
		}
		if !same(files(t, fs), image) {
			t.Errorf("%s: an open that failed changed the files", where)
		}
		return true
	}
	defer d.Close()
	got := contents(t, d)
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: opened, and %s is gone or another", where, key)
			return false
		}
	}
	return false
}

// A file that is missing does no harm, or keeps the store from being opened: an empty one is never begun in its place.
func TestMissingFileIsFoundOrHarmless(t *testing.T) {
	for name, orderly := range map[string]bool{"killed": false, "closed": true} {
		t.Run(name, func(t *testing.T) {
			image, want := written(t, orderly)
			all := slices.Sorted(maps.Keys(image))
			newest := slices.IndexFunc(all, func(name string) bool { return !strings.HasSuffix(name, ".journal") }) - 1
			if newest < 1 {
				t.Fatal("there is no older segment of the journal than the newest")
			}
			for i, file := range all {
				rest := maps.Clone(image)
				delete(rest, file)
				if found := checkDamaged(t, "without "+file, rest, want); i == newest && !found {
					t.Errorf("a store is opened without %s, the newest of its journal", file)
				}
			}
			for _, file := range all {
				if !checkDamaged(t, "nothing but "+file, map[string][]byte{file: image[file]}, want) {
					t.Errorf("a store is begun where only %s is left", file)
				}
			}
			maps.DeleteFunc(image, func(name string, _ []byte) bool { return strings.HasSuffix(name, ".journal") })
			if !checkDamaged(t, "without a journal", image, want) {
				t.Error("a store is opened without its journal")
			}
		})
	}
}

const recordHead = 24 // bytes of a record of the journal without a payload

func newestSegment(image map[string][]byte) (newest string) {
	for file := range image {
		if strings.HasSuffix(file, ".journal") {
			newest = max(newest, file)
		}
	}
	return newest
}

// The end of the newest segment is that of what was acknowledged, and no later one says what it had.
func TestNewestSegmentThatIsCutShortIsFound(t *testing.T) {
	for name, orderly := range map[string]bool{"killed": false, "closed": true} {
		t.Run(name, func(t *testing.T) {
			image, want := written(t, orderly)
			newest := newestSegment(image)
			for _, size := range places(40, len(image[newest])) {
				cut := maps.Clone(image)
				cut[newest] = image[newest][:size]
				if !checkDamaged(t, fmt.Sprintf("%s cut to %d of %d bytes", newest, size, len(image[newest])), cut, want) {
					t.Errorf("a store is opened whose newest segment has %d of %d bytes", size, len(image[newest]))
				}
			}
		})
	}
}

// So is one whose last records are all zeros, as what is not written yet is.
func TestNewestSegmentThatIsEmptiedIsFound(t *testing.T) {
	for name, orderly := range map[string]bool{"killed": false, "closed": true} {
		t.Run(name, func(t *testing.T) {
			image, want := written(t, orderly)
			newest := newestSegment(image)
			end := len(bytes.TrimRight(image[newest], "\x00")) - recordHead // before the seal, which nobody was told of
			for _, at := range places(40, end) {
				emptied := maps.Clone(image)
				emptied[newest] = slices.Clone(image[newest])
				clear(emptied[newest][at:])
				if !checkDamaged(t, fmt.Sprintf("%s has zeros from byte %d on", newest, at), emptied, want) {
					t.Errorf("a store is opened whose newest segment has zeros from byte %d on, of %d", at, end)
				}
			}
		})
	}
}

func TestNewerFormatIsRefusedUntouched(t *testing.T) {
	image, _ := written(t, true)
	image["format"] = []byte("outrigger store, format 2\n")
	fs := folder(t, image)
	_, err := reopen(fs)
	if !errors.Is(err, db.ErrNewer) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("a newer format: %v", err)
	}
	if !same(files(t, fs), image) {
		t.Error("it was touched")
	}
}

// What is damaged while the store is open fails who reads it, and nobody else.
func TestDamageThatIsFoundLater(t *testing.T) {
	image, want := written(t, true)
	fs := folder(t, image)
	d, err := reopen(fs)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Compact(ctx); err != nil { // or it does by itself what replaces the tables, at any moment
		t.Fatal(err)
	}
	for name, data := range files(t, fs) {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := fs.OpenReadWrite("store/"+name, "test")
		if errors.Is(err, iofs.ErrNotExist) {
			continue // it had been replaced
		}
		if err != nil {
			t.Fatal(err)
		}
		for at := range data[:len(data)/2] {
			data[at] ^= 0x40
		}
		if _, err := f.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	v := d.Space("test").View()
	defer v.Close()
	var damage *db.Damage
	read := func(key string) error {
		_, _, err := v.Get([]byte(key))
		_, looked := v.Look([]byte(key), func([]byte) {})
		if (err == nil) != (looked == nil) || errors.Is(err, components.ErrDamaged) != errors.Is(looked, components.ErrDamaged) {
			t.Errorf("%s: Get answers %v, Look %v", key, err, looked)
		}
		return err
	}
	if err := read("large-4"); !errors.Is(err, components.ErrDamaged) || !errors.As(err, &damage) || !strings.HasSuffix(damage.File, ".sst") {
		t.Errorf("a value that is damaged: %v", err)
	}
	for key, value := range v.Scan(nil, nil) {
		if want[string(key)] != string(value) {
			t.Errorf("a scan shows another value of %s, of %d bytes", key, len(value))
		}
	}
	if err := v.Err(); !errors.Is(err, components.ErrDamaged) {
		t.Errorf("a scan: %v", err)
	}
	if err := errors.Join(set(d, "after", "1"), d.Check()); err != nil {
		t.Errorf("a write after that: %v", err)
	}
}
