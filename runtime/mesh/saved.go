package mesh

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// saved is what the directory knew when it last wrote it down, for a start while the registry is away. The file has one line of JSON
// for each service. It is a memory, not a record: what is lost of it is found again in the registry.
type saved struct {
	mu       sync.Mutex
	services map[Service]savedService // as they were read, until the source says better
	dirty    chan struct{}
}

type savedService struct {
	Service   Service    `json:"service"`
	Seen      time.Time  `json:"seen"`
	Instances []Instance `json:"instances"`
}

const (
	savedFor   = 7 * 24 * time.Hour // longer nobody remembers a service
	saveAfter  = time.Second        // from a change to the disk
	saveShare  = 20                 // writing takes at most one part in so many of the time
	savedLimit = 16 << 20           // bytes of one line
)

func newSaved() *saved {
	return &saved{services: map[Service]savedService{}, dirty: make(chan struct{}, 1)}
}

// Remember reads what a directory has written to path before, and writes there what this one knows until Close. It is called before the
// first question. A file that cannot be read is an error, and is written anew all the same.
func (d *Directory) Remember(path string) error {
	err := d.saved.load(path, time.Now())
	d.tasks.Go(func() { d.write(path) })
	return err
}

func (s *saved) load(path string, now time.Time) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, savedLimit)
	bad := 0
	for lines.Scan() {
		var one savedService
		if json.Unmarshal(lines.Bytes(), &one) != nil {
			bad++
		} else if now.Sub(one.Seen) < savedFor {
			s.services[one.Service] = one
		}
	}
	if bad > 0 {
		err = fmt.Errorf("%d of its lines cannot be read", bad)
	}
	return errors.Join(lines.Err(), err)
}

func (s *saved) find(service Service) []Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services[service].Instances
}

func (s *saved) has(service Service) bool { return len(s.find(service)) > 0 }

// drop forgets a service of which the source has spoken.
func (s *saved) drop(service Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.services, service)
}

func (s *saved) changed() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// write keeps the file current until the directory is closed.
func (d *Directory) write(path string) {
	told := ""
	pause := saveAfter
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.saved.dirty:
		}
		select {
		case <-d.ctx.Done():
		case <-time.After(pause):
		}
		began := time.Now()
		if err := d.save(path, began); err != nil && err.Error() != told {
			told = err.Error()
			d.log.Warn("what is known of services cannot be saved", "file", path, "err", err)
		}
		pause = max(saveAfter, saveShare*time.Since(began))
	}
}

// save writes a new file and puts it in the place of the old one.
func (d *Directory) save(path string, now time.Time) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f)
	lines := json.NewEncoder(out)
	d.services.each(func(of *Entry) bool {
		s := of.Snapshot()
		one := savedService{Service: of.Service, Seen: now}
		for _, list := range [...][]*Endpoint{s.Endpoints, s.Held} {
			for _, e := range list {
				one.Instances = append(one.Instances, *e.instance)
			}
		}
		if !s.Stale && len(one.Instances) > 0 {
			err = lines.Encode(one)
		}
		return err == nil
	})
	d.saved.mu.Lock()
	for _, one := range d.saved.services {
		if err == nil {
			err = lines.Encode(one)
		}
	}
	d.saved.mu.Unlock()
	if err = errors.Join(err, out.Flush(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
