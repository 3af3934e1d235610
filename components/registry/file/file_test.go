package file_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/file"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
)

var stock = registry.Service{Namespace: "shop", Name: "stock"}

func TestConformance(t *testing.T) { registrytest.Run(t, backend) }

func backend(t *testing.T) registrytest.Backend {
	dir := t.TempDir()
	other := open(t, dir, nil)
	return registrytest.Backend{Open: func() registry.Driver { return open(t, dir, nil) },
		Put:    func(r registry.Record) { must(t, other.Register(t.Context(), r)) },
		Remove: func(s registry.Service, address string) { must(t, other.Deregister(t.Context(), s, address)) }}
}

func open(t *testing.T, dir string, log *slog.Logger) registry.Driver {
	t.Helper()
	if log == nil {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	d, err := file.Open(t.Context(), components.Env{Logger: log}, file.Options{Dir: dir, Check: 20 * time.Millisecond})
	must(t, err)
	t.Cleanup(func() { must(t, d.(components.Closer).Close(context.Background())) })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// view is what a watch says of the service.
type view struct {
	mu   sync.Mutex
	seen []string // each report, as the addresses in it
}

func watch(t *testing.T, d registry.Driver) *view {
	v := &view{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.Watch(ctx, stock, func(all []registry.Record) error { // ends with ctx or the driver
			v.mu.Lock()
			defer v.mu.Unlock()
			v.seen = append(v.seen, addresses(all))
			return nil
		})
	}()
	t.Cleanup(func() { stop(); <-ended })
	return v
}

func addresses(all []registry.Record) string {
	var text []string
	for _, r := range all {
		text = append(text, r.Address)
	}
	return strings.Join(text, " ")
}

func (v *view) last() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.seen) == 0 {
		return "nothing yet"
	}
	return v.seen[len(v.seen)-1]
}

func (v *view) want(t *testing.T, want string) {
	t.Helper()
	eventually(t, func() error {
		if got := v.last(); got != want {
			return fmt.Errorf("the list is %q, want %q", got, want)
		}
		return nil
	})
}

func eventually(t *testing.T, holds func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = holds(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func put(t *testing.T, d registry.Driver, address string) {
	t.Helper()
	must(t, d.Register(t.Context(), registry.Record{Service: stock, Address: address, Weight: 100}))
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, pattern))
	must(t, err)
	return all
}

// logged is a log that tests read.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func TestDamagedFilesAreLeftOutWithOneWarning(t *testing.T) {
	dir := t.TempDir()
	var log logged
	d := open(t, dir, slog.New(slog.NewTextHandler(&log, nil)))
	put(t, d, "10.0.0.1:1")
	put(t, d, "10.0.0.2:1")
	record := files(t, dir, "records/*.json")[0]
	whole, err := os.ReadFile(record)
	must(t, err)
	must(t, os.WriteFile(record, whole[:len(whole)/2], 0o600))
	odd := map[string]string{"x.json": "{}", "a.b.c.json": "{}", "notes.txt": "hello"}
	for name, content := range odd {
		must(t, os.WriteFile(filepath.Join(dir, "records", name), []byte(content), 0o600))
	}
	v := watch(t, d)
	eventually(t, func() error {
		if got := v.last(); got != "10.0.0.1:1" && got != "10.0.0.2:1" {
			return fmt.Errorf("the list is %q, want the whole record alone", got)
		}
		return nil
	})
	time.Sleep(200 * time.Millisecond) // some checks more
	if n := log.count(filepath.Base(record)); n != 1 {
		t.Errorf("%d warnings of the damaged file, want 1", n)
	}
	if n := log.count("notes.txt"); n != 1 {
		t.Errorf("%d warnings of the file that is no record, want 1", n)
	}
	must(t, os.WriteFile(record, whole, 0o600))
	v.want(t, "10.0.0.1:1 10.0.0.2:1")
}

func TestRecordInAnothersFileIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, nil)
	put(t, d, "10.0.0.1:1")
	put(t, d, "10.0.0.2:1")
	all := files(t, dir, "records/*.json")
	first, err := os.ReadFile(all[0])
	must(t, err)
	must(t, os.WriteFile(all[1], first, 0o600))
	v := watch(t, d)
	eventually(t, func() error {
		if got := v.last(); len(strings.Fields(got)) != 1 {
			return fmt.Errorf("the list is %q, want one record", got)
		}
		return nil
	})
}

func TestClearedFolderIsPutRight(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "registry")
	a, b := open(t, dir, nil), open(t, dir, nil)
	put(t, a, "10.0.0.1:1")
	put(t, b, "10.0.0.2:1")
	v := watch(t, a)
	v.want(t, "10.0.0.1:1 10.0.0.2:1")
	for _, gone := range []string{"records", "locks", ""} {
		must(t, os.Rename(filepath.Join(dir, gone), filepath.Join(top, "gone-"+gone))) // at once: what is removed is put back
		eventually(t, func() error {
			if r, l := files(t, dir, "records/*.json"), files(t, dir, "locks/*.lock"); len(r) != 2 || len(l) != 2 {
				return fmt.Errorf("without %q: %d records and %d locks, want 2 and 2", gone, len(r), len(l))
			}
			return nil
		})
		v.want(t, "10.0.0.1:1 10.0.0.2:1")
	}
}

func TestNewerOfTwoRecordsForOneAddressCounts(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir, nil), open(t, dir, nil)
	must(t, a.Register(t.Context(), registry.Record{Service: stock, Address: "10.0.0.1:1", Weight: 1}))
	must(t, b.Register(t.Context(), registry.Record{Service: stock, Address: "10.0.0.1:1", Weight: 2}))
	weights := func() (all []int) {
		_ = a.Watch(t.Context(), stock, func(records []registry.Record) error { // ends with what report answers
			for _, r := range records {
				all = append(all, r.Weight)
			}
			return context.Canceled
		})
		return all
	}
	for range 20 {
		if got := weights(); !slices.Equal(got, []int{2}) {
			t.Fatalf("records of weights %v, want the newer one, of 2", got)
		}
	}
	must(t, b.(components.Closer).Close(t.Context()))
	if got := weights(); !slices.Equal(got, []int{1}) {
		t.Errorf("after the newer one has closed: records of weights %v, want 1", got)
	}
}
