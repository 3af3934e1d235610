package db_test

import (
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// gated is a file system on which each sync of the journal waits until it is let go, once it is shut.
type gated struct {
	vfs.FS
	shut   atomic.Bool
	gates  chan chan error // of the syncs that have begun
	shared atomic.Bool     // two were under way by one handle, of which the system tells one alone that a write has failed
}

func (g *gated) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, c)
	return g.file(name, f), err
}

func (g *gated) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.OpenReadWrite(name, c, opts...)
	return g.file(name, f), err
}

func (g *gated) file(name string, f vfs.File) vfs.File {
	if strings.Contains(name, ".journal") {
		return &gatedFile{File: f, g: g}
	}
	return f
}

type gatedFile struct {
	vfs.File
	g    *gated
	busy atomic.Bool
}

func (f *gatedFile) SyncData() error {
	if f.busy.Swap(true) {
		f.g.shared.Store(true)
	}
	defer f.busy.Store(false)
	if f.g.shut.Load() {
		gate := make(chan error)
		f.g.gates <- gate
		if err := <-gate; err != nil {
			return err
		}
	}
	return f.File.SyncData()
}

// going is a write that goes on.
type going struct {
	err  error
	over <-chan struct{}
}

func write(d *db.DB, key string) *going {
	g := &going{}
	g.over = does(func() { g.err = set(d, key, "1") })
	return g
}

func (g *going) ended() bool {
	select {
	case <-g.over:
		return true
	default:
		return false
	}
}

func openGated(t *testing.T) (*gated, *db.DB) {
	fs := &gated{FS: vfs.NewMem(), gates: make(chan chan error, 8)}
	d := open(t, fs)
	if err := set(d, "before", "1"); err != nil {
		t.Fatal(err)
	}
	fs.shut.Store(true)
	return fs, d
}

// A sync does not wait for the one before it, and is told in order all the same.
func TestSyncsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, d := openGated(t)
		begin := func(key string) *going {
			defer synctest.Wait()
			return write(d, key)
		}
		let := func(gate chan error) {
			gate <- nil
			synctest.Wait()
		}
		a := begin("a")
		first := <-fs.gates
		b := begin("b")
		if len(fs.gates) != 1 {
			t.Fatalf("%d syncs have begun while the first goes on, want one", len(fs.gates))
		}
		if fs.shared.Load() {
			t.Error("the second has no handle of its own")
		}
		second := <-fs.gates
		c, e := begin("c"), begin("e")
		if len(fs.gates) != 0 {
			t.Error("a third sync has begun")
		}
		let(second)
		if got := contents(t, d); a.ended() || b.ended() || got["b"] != "" {
			t.Errorf("the second is told before the first: %v, %v, there is %v", a.ended(), b.ended(), got)
		}
		let(first)
		if got := contents(t, d); !a.ended() || !b.ended() || errors.Join(a.err, b.err) != nil || got["a"]+got["b"] != "11" {
			t.Errorf("both are on the disk: %v, %v, there is %v", a.err, b.err, got)
		}
		if len(fs.gates) != 1 {
			t.Fatalf("%d syncs have begun for the two that waited, want one", len(fs.gates))
		}
		third := <-fs.gates
		f := begin("f")
		if len(fs.gates) != 0 {
			t.Error("one that waits is a group by itself, and the one under way is of two")
		}
		let(third)
		let(<-fs.gates)
		if !c.ended() || !e.ended() || !f.ended() || errors.Join(c.err, e.err, f.err) != nil {
			t.Errorf("the others: %v, %v, %v", c.err, e.err, f.err)
		}
		fs.shut.Store(false)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

func unknown(err error) bool {
	detail := (*components.Detail)(nil)
	return errors.As(err, &detail) && detail.Reason == db.ReasonOutcomeUnknown
}

// What a sync that failed was for, and all after it, may be lost: that is what each is told.
func TestOverlappingSyncThatFails(t *testing.T) {
	for name, tc := range map[string]struct {
		order []int // of the syncs' ends, the failing one among them
		fails int
	}{
		"the first":                    {[]int{0, 1}, 0},
		"the first, after the second":  {[]int{1, 0}, 0},
		"the second":                   {[]int{0, 1}, 1},
		"the second, before the first": {[]int{1, 0}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			fs, d := openGated(t)
			a := write(d, "a")
			gates := []chan error{<-fs.gates}
			b := write(d, "b")
			gates = append(gates, <-fs.gates)
			for _, i := range tc.order {
				var err error
				if i == tc.fails {
					err = syscall.EIO
				}
				gates[i] <- err
				if i == 0 && tc.fails == 1 {
					await(t, "the first is not told", a.over)
				} else if i == tc.fails {
					await(t, "it has not failed", d.Failed())
				}
			}
			await(t, "the first is not told", a.over)
			await(t, "the second is not told", b.over)
			safe := tc.order[0] == 0 && tc.fails == 1
			if (a.err == nil) != safe || unknown(a.err) == safe || !unknown(b.err) {
				t.Errorf("%v, %v", a.err, b.err)
			}
			if got := contents(t, d); got["b"] != "" || (got["a"] == "1") != safe {
				t.Errorf("there is %v", got)
			}
			fs.shut.Store(false)
			d.Close()
		})
	}
}

// Once a sync has failed nothing is decided on what may be lost with it: not even that there is nothing to be done.
func TestNothingBeginsAfterASyncThatFailed(t *testing.T) {
	for !nothingBegins(t) { // the one that was to wait came in time to be taken along
	}
}

// nothingBegins answers false if the third was begun together with the second.
func nothingBegins(t *testing.T) bool {
	fs, d := openGated(t)
	a := write(d, "a")
	first := <-fs.gates
	var begun atomic.Int64
	var late atomic.Bool // one has begun when it was known that the sync had failed
	refused := func() <-chan error {
		told := make(chan error, 1)
		d.Space("test").UpdateLater(ctx, db.Disk, func(tx *db.Tx) error {
			select {
			case <-d.Failed():
				late.Store(true)
			default:
			}
			begun.Add(1)
			if _, there, err := tx.Get([]byte("a")); err != nil || !there {
				return err
			}
			return components.ErrExists
		}, func(err error) { told <- err })
		return told
	}
	second := refused()
	for begun.Load() == 0 {
		runtime.Gosched()
	}
	third := refused()
	first <- syscall.EIO
	await(t, "the first is not told", a.over)
	if err := <-second; !unknown(err) {
		t.Errorf("one that was refused for what may be lost hears %v", err)
	}
	err := <-third
	fs.shut.Store(false)
	d.Close()
	if begun.Load() == 2 && !late.Load() {
		return false
	}
	if !errors.Is(err, components.ErrUnavailable) || begun.Load() != 1 {
		t.Errorf("of the two %d have begun, and the one that waited hears %v", begun.Load(), err)
	}
	return true
}
