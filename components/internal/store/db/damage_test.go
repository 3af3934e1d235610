package db_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// random is a closed store with a table of values of 500 KiB, a block each.
func random(t *testing.T) map[string][]byte {
	t.Helper()
	fs := vfs.NewMem()
	d := open(t, fs)
	r := rand.NewChaCha8([32]byte{})
	value := make([]byte, 500<<10)
	for i := range 20 {
		_, _ = r.Read(value)
		if err := set(d, fmt.Sprint("k", i), string(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(d.Compact(ctx), set(d, "last", "1"), d.Close()); err != nil { // the journal's first segments are gone
		t.Fatal(err)
	}
	return files(t, fs)
}

// Whoever repairs a store is told which file it is, and where in it.
func TestDamageNamesFileAndOffset(t *testing.T) {
	image := random(t)
	file := func(part string) (largest string) {
		for _, name := range slices.Sorted(maps.Keys(image)) {
			if strings.Contains(name, part) && (largest == "" || len(image[name]) > len(image[largest])) {
				largest = name
			}
		}
		return largest
	}
	table, list, options := file(".sst"), file("MANIFEST-"), file("OPTIONS-")
	const value = 500 << 10
	for name, tc := range map[string]struct {
		file   string
		damage func([]byte) []byte
		from   int // the offset that is told, and to
		to     int
	}{
		"a table cut short":                {table, func(b []byte) []byte { return b[:900] }, 900, 900},
		"a table that has grown":           {table, func(b []byte) []byte { return append(b, 0) }, len(image[table]), len(image[table])},
		"a table that is missing":          {table, func([]byte) []byte { return nil }, -1, -1},
		"a bit of a large value":           {table, flip(3 * value), 2 * value, 3 * value},
		"the first bit of the options":     {options, flip(0), 0, 0},
		"the last bit of the tables' list": {list, flip(len(image[list]) - 1), 1, len(image[list]) - 1},
		"an amid bit of the tables' list":  {list, flip(len(image[list]) / 2), 0, len(image[list]) / 2},
	} {
		t.Run(name, func(t *testing.T) {
			damaged := maps.Clone(image)
			if data := tc.damage(slices.Clone(image[tc.file])); data != nil {
				damaged[tc.file] = data
			} else {
				delete(damaged, tc.file)
			}
			fs := folder(t, damaged)
			_, opened := reopen(fs)
			for _, err := range []error{opened, db.Verify(db.Options{Dir: "store", FS: fs})} {
				var d *db.Damage
				if !errors.Is(err, components.ErrDamaged) || !errors.As(err, &d) {
					t.Fatalf("it is not found: %v", err)
				}
				if d.File != "store/"+tc.file || d.Offset < int64(tc.from) || d.Offset > int64(tc.to) {
					t.Errorf("byte %d of %s instead of %d to %d of %s: %v", d.Offset, d.File, tc.from, tc.to, tc.file, err)
				}
				if strings.Contains(err.Error(), "checksum mismatch") {
					t.Errorf("the engine has searched for the bit: %v", err)
				}
			}
			if !same(files(t, fs), damaged) {
				t.Error("it was touched")
			}
		})
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= 0x40
		return b
	}
}
