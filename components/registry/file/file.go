// Package file is a registry in a folder that sidecars on one machine share: a file for each record. Which records are alive
// is told by locks: each sidecar holds one as long as its process lives, stopped or not, and the kernel frees it however the
// process ends. Nobody has to renew anything, and no process id is mistaken for another's.
package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

func init() {
	components.Register(registry.Drivers, "file", Options{Check: 500 * time.Millisecond}, Open)
}

// Options of the driver.
type Options struct {
	Dir   string        `yaml:"dir" doc:"the folder that the sidecars share, on a local disk; empty: registry in the data folder"`
	Check time.Duration `yaml:"check" doc:"how often to look which sidecars are still there"`
}

// Validate refuses an interval that would be none.
func (o Options) Validate() error {
	if o.Check < 10*time.Millisecond {
		return fmt.Errorf("check: %v is less than 10ms", o.Check)
	}
	return nil
}

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- A record is seen by the other sidecars at once, and gone from their lists at once when it is taken back.
- The records of a sidecar that was killed are gone after ` + "`check`" + `; those of one that is stopped (SIGSTOP) stay.
- A record that is damaged is left out, with one warning; the others are not affected.
- If the folder is emptied, each sidecar puts its own records back within ` + "`check`" + `.
- Sidecars of one machine only: locks of network file systems are not to be relied on.`
}

// store is one instance. Its owner name is its own alone, never used again, so that a lock that is free is free for ever.
type store struct {
	dir   string
	owner string
	log   *slog.Logger

	mu       sync.Mutex
	lock     *os.File // held from Open to Close
	own      map[string]entry
	files    map[string]read // what is known of each file of a record
	warned   map[string]string
	list     map[registry.Service][]registry.Record
	newer    chan struct{} // closed when there is another list
	notifier *folder.Notifier
	closed   bool

	done  chan struct{} // closed by Close
	ended chan struct{}
}

var (
	_ components.Closer  = (*store)(nil)
	_ components.Checker = (*store)(nil)
)

var errClosed = fmt.Errorf("%w: the component is closed", components.ErrUnavailable)

// Open makes the folder if need be, and takes the lock of this instance.
func Open(_ context.Context, env components.Env, o Options) (registry.Driver, error) {
	dir := o.Dir
	if dir == "" {
		dir = filepath.Join(env.DataDir, "registry")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("registry folder %q: %w", o.Dir, err)
	}
	s := &store{dir: dir, owner: rand.Text(), log: env.Logger, own: map[string]entry{}, files: map[string]read{},
		warned: map[string]string{}, newer: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{})}
	if err := s.takeLock(); err != nil {
		return nil, fmt.Errorf("registry folder %q: %w", dir, err)
	}
	s.notifier = folder.NewNotifier(env.Logger, o.Check)
	go s.run()
	return s, nil
}

func (s *store) run() {
	defer close(s.ended)
	for range s.notifier.C {
		s.mu.Lock()
		if !s.closed {
			s.warn("", s.look())
		}
		s.mu.Unlock()
	}
}

// Register is heard by others as soon as it returns.
func (s *store) Register(_ context.Context, r registry.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	e := entry{Record: r, since: time.Now().UnixNano()}
	if err := s.write(e); err != nil {
		return fmt.Errorf("record of %q at %s: %w", r.Name, r.Address, err)
	}
	s.own[fileName(r, s.owner)] = e
	return s.look()
}

func (s *store) write(e entry) error {
	root, err := folder.Open(s.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	data, err := encode(e)
	if err != nil {
		return err
	}
	return folder.Write(root, recordsDir+"/"+fileName(e.Record, s.owner), data)
}

func (s *store) Deregister(_ context.Context, service registry.Service, address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	name := fileName(registry.Record{Service: service, Address: address}, s.owner)
	delete(s.own, name)
	root, err := folder.Open(s.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := folder.Remove(root, recordsDir+"/"+name, recordsDir); err != nil {
		return fmt.Errorf("record of %q at %s: %w", service.Name, address, err)
	}
	return s.look()
}

func (s *store) Watch(ctx context.Context, service registry.Service, report func([]registry.Record) error) error {
	records, newer, err := s.now(service)
	if err != nil {
		return err
	}
	for last, begun := []registry.Record(nil), false; ; records, newer = s.last(service) {
		if !begun || !same(last, records) {
			begun, last = true, records
			if err := report(clone(records)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return errClosed
		case <-newer:
		}
	}
}

// now looks, and answers what it sees and a channel that is closed when there is something else to see.
func (s *store) now(service registry.Service) ([]registry.Record, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, errClosed
	}
	if err := s.look(); err != nil {
		return nil, nil, err
	}
	return s.list[service], s.newer, nil
}

func (s *store) last(service registry.Service) ([]registry.Record, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list[service], s.newer
}

// Check tells whether the folder can be used.
func (s *store) Check(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return s.look()
}

// Close takes back all records and frees the lock.
func (s *store) Close(context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	err := s.leave()
	s.mu.Unlock()
	close(s.done)
	s.notifier.Close()
	<-s.ended
	return err
}

func (s *store) leave() error {
	defer s.lock.Close() // even if the files stay, they count no more
	root, err := folder.Open(s.dir)
	if errors.Is(err, components.ErrNotFound) {
		return nil // somebody has cleared up already
	}
	if err != nil {
		return err
	}
	defer root.Close()
	for name := range s.own {
		err = errors.Join(err, folder.Remove(root, recordsDir+"/"+name, recordsDir))
	}
	return errors.Join(err, folder.Remove(root, lockName(s.owner), locksDir))
}
