package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// node is what a process has to do with one store: it owns it, or is a client of who does, and takes over when that one goes.
type node struct {
	dir    string
	log    *slog.Logger
	meters meters

	mu      sync.Mutex
	current *session
	err     error         // why there is none
	changed chan struct{} // closed and replaced when current or err changes

	stop  context.CancelFunc
	ended chan struct{}
}

// The pauses between attempts to own the store or to reach its owner.
const (
	racePause  = 5 * time.Millisecond
	failPause  = 200 * time.Millisecond // doubled up to failMost
	failMost   = 2 * time.Second
	calm       = 10 * time.Second // after which a failure is not the one before again
	helloLimit = time.Second
)

func startNode(ctx context.Context, dir string, log *slog.Logger) (*node, error) {
	if err := makeDir(dir); err != nil {
		return nil, explain(err)
	}
	n := &node{dir: dir, log: log, changed: make(chan struct{}), ended: make(chan struct{})}
	n.measure()
	s, err := n.enter(ctx)
	if err != nil {
		return nil, err
	}
	n.set(s, nil)
	run, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() {
		defer close(n.ended)
		n.run(run, s)
	}()
	return n, nil
}

// makeDir makes the folder of the store so that it is there after a loss of power, too.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	above, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	return errors.Join(above.Sync(), above.Close())
}

// lentNode is the owner's of a DB that others opened and will close.
func lentNode(d *db.DB, log *slog.Logger) (*node, error) {
	m, err := openMachines(d, log)
	if err != nil {
		return nil, err
	}
	s := newSession()
	s.machines = m
	n := &node{log: log, current: s, changed: make(chan struct{}), ended: make(chan struct{})}
	n.measure()
	n.stop = func() {
		s.finish(errLost)
		s.wait()
		m.close()
		close(n.ended)
	}
	return n, nil
}

func (n *node) close() {
	n.stop()
	<-n.ended
}

// run lives through one session after the other, without a pause unless the files have failed again soon.
func (n *node) run(ctx context.Context, s *session) {
	for pause := time.Duration(0); ; {
		begun := time.Now()
		select {
		case <-ctx.Done():
		case <-s.serving.Done():
			pause = 0
		case <-s.failed():
			if time.Since(begun) > calm {
				pause = 0
			}
		}
		why := errLost
		if ctx.Err() != nil {
			why = db.ErrClosed
		}
		s.finish(why)
		n.set(nil, nil)
		n.leave(s)
		for s = nil; s == nil; {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			if ctx.Err() != nil {
				n.set(nil, db.ErrClosed)
				return
			}
			pause = min(max(2*pause, failPause), failMost)
			var err error
			if s, err = n.enter(ctx); err != nil {
				n.set(nil, err)
			}
		}
		n.set(s, nil)
	}
}

// enter becomes the owner if nobody else is, and otherwise a client.
func (n *node) enter(ctx context.Context) (*session, error) {
	for {
		l, err := takeLock(n.dir)
		if err != nil {
			return nil, err
		}
		if l != nil {
			return n.own(ctx, l)
		}
		r, err := dial(ctx, n.dir)
		if err == nil {
			s := newSession()
			s.remote = r
			r.watch(s)
			n.log.Debug("the store is served by another process", "pid", r.owner.PID)
			return s, nil
		}
		if !errors.Is(err, errNobody) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: nobody serves the store yet: %w", components.ErrUnavailable, ctx.Err())
		case <-time.After(racePause):
		}
	}
}

// leave gives up what a session holds, the lock last.
func (n *node) leave(s *session) {
	if s.remote != nil {
		s.remote.cut()
		s.wait()
		s.remote.close()
		return
	}
	s.wait()
	s.machines.leave()
}

// session waits until there is one, or a reason why not: at most until the limit, or as long as patience has it.
func (n *node) session(ctx context.Context, limit time.Time) (*session, error) {
	var expired <-chan time.Time
	for {
		n.mu.Lock()
		s, err, changed := n.current, n.err, n.changed
		n.mu.Unlock()
		if s != nil || err != nil {
			return s, err
		}
		if expired == nil {
			if limit.IsZero() {
				limit = time.Now().Add(patience)
			}
			t := time.NewTimer(time.Until(limit))
			defer t.Stop()
			expired = t.C
		}
		select {
		case <-changed:
		case <-expired:
			return nil, errLost
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (n *node) set(s *session, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil && !errors.Is(err, db.ErrClosed) && (n.err == nil || n.err.Error() != err.Error()) {
		n.log.Warn("the store cannot be reached", "err", err)
	}
	n.current, n.err = s, err
	close(n.changed)
	n.changed = make(chan struct{})
}

// drop makes sure that a session that is over is not answered again.
func (n *node) drop(s *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current == s {
		n.current = nil
		close(n.changed)
		n.changed = make(chan struct{})
	}
}
