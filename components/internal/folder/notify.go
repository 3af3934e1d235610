package folder

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	quiet = 15 * time.Millisecond // a burst of events is one
	blind = time.Second           // between looks, where the system does not tell
)

// Notifier tells when it is worth looking into some folders again.
type Notifier struct {
	// C holds an element after something has happened in one of the folders, and each time the interval has passed. It is
	// closed when the notifier is.
	C <-chan struct{}

	log     *slog.Logger
	events  *fsnotify.Watcher // nil: there is none to be had
	watched map[string]bool
	kept    map[string]bool
	blind   chan struct{} // closed when a folder cannot be watched
	stop    context.CancelFunc
	ended   chan struct{}
}

// NewNotifier makes one; every is the interval after which it tells anyway, for file systems that do not. Its methods are
// for one goroutine at a time. Close it.
func NewNotifier(log *slog.Logger, every time.Duration) *Notifier {
	ctx, stop := context.WithCancel(context.Background())
	c := make(chan struct{}, 1)
	n := &Notifier{C: c, log: log, stop: stop, ended: make(chan struct{}), blind: make(chan struct{}),
		watched: map[string]bool{}, kept: map[string]bool{}}
	var err error
	if n.events, err = fsnotify.NewWatcher(); err != nil {
		n.events = nil
		n.unsighted(err)
	}
	go n.run(ctx, c, every)
	return n
}

func (n *Notifier) unsighted(err error) {
	select {
	case <-n.blind:
	default:
		n.log.Warn("changes of files are not told by the system; looking once a second", "err", err)
		close(n.blind)
	}
}

// Begin starts a round of Watch calls; what the round before watched and this one does not is let go by End.
func (n *Notifier) Begin() { clear(n.kept) }

// Watch includes a folder: call it before reading it, so that nothing is missed between. In place of one that is absent the
// nearest folder above is watched, in which it would appear.
func (n *Notifier) Watch(dir string) {
	if n.events == nil {
		return
	}
	for {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			dir = real
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			return
		}
		dir = up
	}
	if n.kept[dir] {
		return
	}
	// Even if it is watched already: it may be another folder of the same name by now.
	if err := n.events.Add(dir); err != nil {
		if !os.IsNotExist(err) && !errors.Is(err, fsnotify.ErrClosed) {
			n.unsighted(err)
		}
		return
	}
	n.kept[dir], n.watched[dir] = true, true
}

// End ends a round.
func (n *Notifier) End() {
	for dir := range n.watched {
		if !n.kept[dir] {
			_ = n.events.Remove(dir) // it may be gone already
			delete(n.watched, dir)
		}
	}
}

// Close ends it and waits for its goroutine.
func (n *Notifier) Close() {
	n.stop()
	<-n.ended
}

func (n *Notifier) run(ctx context.Context, c chan<- struct{}, every time.Duration) {
	defer close(n.ended)
	defer close(c)
	var events chan fsnotify.Event
	var faults chan error
	if n.events != nil {
		defer n.events.Close()
		events, faults = n.events.Events, n.events.Errors
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	blinded := n.blind
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-blinded:
			blinded = nil
			tick.Reset(min(every, blind))
		case <-events:
			if due == nil {
				due = time.After(quiet)
			}
			continue
		case <-faults: // too many events at once: some are lost
		case <-due:
			due = nil
		case <-tick.C:
		}
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
