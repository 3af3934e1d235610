package configtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
)

// tail is a watch and what it has reported.
type tail struct {
	s     *suite
	stop  context.CancelFunc
	ended chan error

	mu       sync.Mutex
	first    []config.Change
	begun    bool
	state    map[string]config.Item
	heard    []config.Change // after the first report
	overlaps bool
}

func (s *suite) watch(sel config.Selection, during func()) *tail {
	s.Helper()
	ctx, stop := context.WithCancel(s.ctx)
	w := &tail{s: s, stop: stop, ended: make(chan error, 1), state: map[string]config.Item{}}
	var busy sync.Mutex
	go func() {
		w.ended <- s.Driver.Watch(ctx, sel, func(changes []config.Change, initial bool) error {
			if !busy.TryLock() {
				w.mu.Lock()
				w.overlaps = true
				w.mu.Unlock()
				return nil
			}
			defer busy.Unlock()
			w.take(changes, initial)
			if during != nil {
				during()
			}
			return nil
		})
	}()
	s.Cleanup(stop)
	return w
}

func (w *tail) take(changes []config.Change, initial bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if initial != !w.begun {
		w.s.Errorf("report says initial=%v, begun before: %v", initial, w.begun)
	}
	if initial {
		w.first = changes
		clear(w.state)
	} else {
		w.heard = append(w.heard, changes...)
	}
	w.begun = true
	for _, c := range changes {
		if c.Deleted {
			delete(w.state, c.Key)
		} else {
			if c.Item.Key != c.Key {
				w.s.Errorf("a change of %q has an item of %q", c.Key, c.Item.Key)
			}
			w.state[c.Key] = c.Item
		}
	}
}

// want waits until what was reported comes to these pairs of keys and values.
func (w *tail) want(pairs ...string) {
	w.s.Helper()
	w.s.eventually(func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.overlaps {
			return errors.New("report was called twice at once")
		}
		if !w.begun {
			return errors.New("nothing is reported")
		}
		for i := 0; i < len(pairs); i += 2 {
			item, there := w.state[pairs[i]]
			if !there || string(item.Value) != pairs[i+1] {
				return fmt.Errorf("the watch has %q = %q (%v), want %q", pairs[i], item.Value, there, pairs[i+1])
			}
		}
		if len(w.state) != len(pairs)/2 {
			return fmt.Errorf("the watch has %d keys, want %q", len(w.state), pairs)
		}
		return nil
	})
}

func (w *tail) wantEnd() (err error) {
	w.s.Helper()
	select {
	case err = <-w.ended:
	case <-time.After(w.s.Patience):
		w.s.Fatal("the watch does not end")
	}
	return err
}

func watchBegins(s *suite) {
	s.put("ns/a", "1")
	s.put("ns/dir/b", "2")
	s.put("ns/dir/c", "3")
	s.put("ns/unseen", "4")
	w := s.watch(config.Selection{Keys: []string{"ns/a", "ns/none", "ns/dir/b"}, Prefixes: []string{"ns/dir/"}}, nil)
	w.want("ns/a", "1", "ns/dir/b", "2", "ns/dir/c", "3")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.first) != 3 {
		s.Errorf("the first report has %d changes, want each of 3 keys once: %v", len(w.first), w.first)
	}
	empty := s.watch(config.Selection{Prefixes: []string{"none/"}}, nil)
	empty.want()
}

func watchChanges(s *suite) {
	s.put("ns/a", "1")
	w := s.watch(config.Selection{Keys: []string{"ns/a", "ns/later"}, Prefixes: []string{"ns/dir/"}}, nil)
	w.want("ns/a", "1")
	s.Put("ns/a", "2")
	w.want("ns/a", "2")
	s.Put("ns/later", "3")
	w.want("ns/a", "2", "ns/later", "3")
	s.Put("ns/dir/new/deep", "4")
	w.want("ns/a", "2", "ns/later", "3", "ns/dir/new/deep", "4")
	s.Remove("ns/a")
	s.Remove("ns/dir/new/deep")
	w.want("ns/later", "3")
	s.Put("ns/a", "5")
	s.Put("ns/dir/new/deep", "6")
	w.want("ns/a", "5", "ns/later", "3", "ns/dir/new/deep", "6")
}

func watchSelects(s *suite) {
	w := s.watch(config.Selection{Keys: []string{"ns/a"}, Prefixes: []string{"ns/p"}}, nil)
	w.want()
	for _, key := range []string{"ns/ab", "other/a", "ns/o", "ns2/p", "other/p", "ns/p", "ns/pq", "ns/a"} {
		s.Put(key, "x")
	}
	w.want("ns/a", "x", "ns/p", "x", "ns/pq", "x")
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.heard {
		if c.Key != "ns/a" && c.Key != "ns/p" && c.Key != "ns/pq" {
			s.Errorf("%q is reported and was not asked for", c.Key)
		}
	}
}

// watchLastValue: of many values in a row the last is reported, and none after a newer one.
func watchLastValue(s *suite) {
	s.put("ns/k", "0")
	w := s.watch(config.Selection{Keys: []string{"ns/k"}}, nil)
	w.want("ns/k", "0")
	const last = 60
	for i := 1; i <= last; i++ {
		s.Put("ns/k", strconv.Itoa(i))
		if i%20 == 0 {
			time.Sleep(30 * time.Millisecond) // so that some in between are reported too
		}
	}
	w.want("ns/k", strconv.Itoa(last))
	w.mu.Lock()
	defer w.mu.Unlock()
	highest := 0
	for _, c := range w.heard {
		n, err := strconv.Atoi(string(c.Item.Value))
		if err != nil || n < highest {
			s.Errorf("%q (%v) is reported after %d", c.Item.Value, err, highest)
		}
		highest = max(highest, n)
	}
}

func watchVersion(s *suite) {
	one := s.put("ns/k", "one")
	w := s.watch(config.Selection{Prefixes: []string{"ns/"}}, nil)
	w.want("ns/k", "one")
	two := s.put("ns/k", "two")
	w.want("ns/k", "two")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.first) != 1 || w.first[0].Item.Version != one.Version || w.state["ns/k"].Version != two.Version {
		s.Errorf("the watch has %v, then version %q; get had versions %q, then %q", w.first, w.state["ns/k"].Version, one.Version, two.Version)
	}
}

// watchReturns: a value that comes back is another version, and is reported.
func watchReturns(s *suite) {
	first := s.put("ns/k", "one")
	w := s.watch(config.Selection{Keys: []string{"ns/k"}}, nil)
	w.want("ns/k", "one")
	s.Put("ns/k", "two")
	w.want("ns/k", "two")
	s.Put("ns/k", "one")
	w.want("ns/k", "one")
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.state["ns/k"].Version; got == first.Version {
		s.Errorf("the version went back to %q", got)
	}
}

func watchEnds(s *suite) {
	w := s.watch(config.Selection{Keys: []string{"ns/k"}}, nil)
	w.want()
	w.stop()
	_ = w.wantEnd() // any error or none: it is the context that counts
	s.put("ns/k", "x")
	w.want()
}

func watchReportFails(s *suite) {
	s.put("ns/k", "x")
	enough := errors.New("enough")
	for _, first := range []bool{true, false} {
		ended := make(chan error, 1)
		begun := make(chan bool, 1)
		go func() {
			ended <- s.Driver.Watch(s.ctx, config.Selection{Keys: []string{"ns/k"}}, func(_ []config.Change, initial bool) error {
				if initial {
					begun <- true
				}
				if initial == first {
					return enough
				}
				return nil
			})
		}()
		select {
		case <-begun:
		case <-time.After(s.Patience):
			s.Fatal("nothing is reported")
		}
		if !first {
			s.Put("ns/k", "y")
		}
		select {
		case err := <-ended:
			if !errors.Is(err, enough) {
				s.Errorf("the watch ends with %v, want what report answered", err)
			}
		case <-time.After(s.Patience):
			s.Fatal("the watch does not end when report fails")
		}
	}
}

// watchSlowReader: one that does not come back from report holds up nobody else, and is told the last value later.
func watchSlowReader(s *suite) {
	s.put("ns/k", "0")
	release := make(chan struct{})
	slow := s.watch(config.Selection{Keys: []string{"ns/k"}}, func() { <-release })
	other := s.watch(config.Selection{Keys: []string{"ns/k"}}, nil)
	other.want("ns/k", "0")
	for i := 1; i <= 5; i++ {
		s.put("ns/k", strconv.Itoa(i))
		other.want("ns/k", strconv.Itoa(i))
	}
	close(release)
	slow.want("ns/k", "5")
}

func watchMany(s *suite) {
	var all []*tail
	for range 30 {
		all = append(all, s.watch(config.Selection{Prefixes: []string{"ns/"}}, nil))
	}
	for _, w := range all {
		w.want()
	}
	s.Put("ns/k", "x")
	for _, w := range all {
		w.want("ns/k", "x")
	}
}

func closing(s *suite) {
	c, ok := s.Driver.(components.Closer)
	if !ok {
		s.Skip("the driver holds nothing")
	}
	w := s.watch(config.Selection{Keys: []string{"ns/k"}}, nil)
	w.want()
	for range 2 {
		if err := c.Close(s.ctx); err != nil {
			s.Errorf("close: %v", err)
		}
	}
	if err := w.wantEnd(); err == nil {
		s.Error("the watch of a closed driver ends without an error")
	}
}
