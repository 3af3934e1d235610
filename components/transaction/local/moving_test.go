package local

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// slow is a disk on which each sync of the journal waits until it is let go, once it is shut.
type slow struct {
	vfs.FS
	shut  atomic.Bool
	gates chan chan struct{}
}

func (s *slow) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return &slowFile{f, s, strings.Contains(name, ".journal")}, err
}

func (s *slow) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.OpenReadWrite(name, c, opts...)
	return &slowFile{f, s, strings.Contains(name, ".journal")}, err
}

type slowFile struct {
	vfs.File
	s  *slow
	is bool
}

func (f *slowFile) SyncData() error {
	if f.is && f.s.shut.Load() {
		gate := make(chan struct{})
		f.s.gates <- gate
		<-gate
	}
	return f.File.SyncData()
}

// TestDecisionUnderWay: what a session makes of a transaction is not written over a decision that was on its way to the disk when the
// transaction was given to it.
func TestDecisionUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &slow{FS: vfs.NewMem(), gates: make(chan chan struct{}, 8)}
		d, err := db.Open(db.Options{Dir: "store", FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		opened, err := open(ctx, d.Space("transaction"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		m := opened.(*machine)
		defer func() { cancel(); m.Close(); d.Close() }()
		const key = "default/a/b/1"
		s := m.join(&driveStart{Application: "default/a/b/", Lease: time.Hour})
		if err := m.space.Update(ctx, db.Disk, func(w *db.Tx) error { w.Set([]byte("z"), nil); return nil }); err != nil {
			t.Fatal(err)
		}
		disk.shut.Store(true)
		does := func(what string, do func() error) {
			go func() {
				if err := do(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}()
			synctest.Wait()
		}
		does("begin", func() error {
			_, err := m.begin(ctx, beginIn{Key: key, Content: chain().content, Durability: db.Disk, Session: s.id})
			return err
		})
		does("abort", func() error {
			_, err := m.decide(ctx, decideIn{Key: key, Decision: transaction.Abort, Durability: db.Disk})
			return err
		})
		if len(disk.gates) != 2 {
			t.Fatalf("%d syncs are under way, want two", len(disk.gates))
		}
		first, second := <-disk.gates, <-disk.gates
		disk.shut.Store(false)
		close(first)
		synctest.Wait()
		for _, w := range m.works(s).Work { // of the first
			go m.write(ctx, writeIn{Key: key, Epoch: w.Epoch, Revision: 1, Run: w.Run, Durability: db.Disk})
			synctest.Wait()
		}
		close(second)
		synctest.Wait()
		info, err := m.get(ctx, getIn{key})
		if err != nil || info.State != transaction.Aborting {
			t.Errorf("the transaction that was aborted is %s, %v", info.State, err)
		}
		if all := m.works(s).Work; len(all) != 1 || all[0].Run.State != transaction.Aborting {
			t.Errorf("the session has %+v", all)
		}
	})
}
