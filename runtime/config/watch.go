package config

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	settleTime = 100 * time.Millisecond // from the first sign of a change to the look at the file
	retryTime  = time.Second            // between looks at whether the watched folder is still the one at its path
)

// Watch calls changed each time that the text of the file differs from the one that was loaded, or seen last, until ctx
// ends. It watches the folder, not the file: editors put another file in its place, and Kubernetes swaps a link beside it.
// The folder may go and come back. A file that is missing changes nothing.
func Watch(ctx context.Context, c *Config, log *slog.Logger, changed func()) {
	if c.SourcePath == "" {
		return
	}
	w := &watch{path: c.SourcePath, folder: filepath.Dir(c.SourcePath), seen: c.digest, log: log, changed: changed}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("cannot watch the configuration, looking at it every second instead", "file", w.path, "err", err)
		w.poll(ctx)
		return
	}
	defer notify.Close()
	w.run(ctx, notify)
}

// watch is what one call of Watch remembers.
type watch struct {
	path, folder string
	seen         [sha256.Size]byte
	log          *slog.Logger
	changed      func()
	at           os.FileInfo // the folder that is watched; nil: none
}

func (w *watch) run(ctx context.Context, notify *fsnotify.Watcher) {
	tick := time.NewTicker(retryTime)
	defer tick.Stop()
	var settled <-chan time.Time
	settle := func() {
		if settled == nil { // a folder that never rests is looked at all the same
			settled = time.After(settleTime)
		}
	}
	w.attach(notify)
	settle() // for what happened between loading and watching
	for {
		select {
		case <-ctx.Done():
			return
		case <-notify.Events:
			settle()
		case err := <-notify.Errors:
			w.log.Warn("watching the configuration", "file", w.path, "err", err)
			settle() // events may be lost
		case <-tick.C:
			if w.attach(notify) {
				settle()
			}
		case <-settled:
			settled = nil
			w.attach(notify) // the sign may have been that the folder went
			w.look()
		}
	}
}

// attach watches the folder that is at the path now, and tells whether that is another than before.
func (w *watch) attach(notify *fsnotify.Watcher) bool {
	now, err := os.Stat(w.folder)
	if err != nil {
		return false
	}
	// A new folder may have the number of the old one, so that being the same file is not enough.
	watched := slices.Contains(notify.WatchList(), w.folder)
	if watched && w.at != nil && os.SameFile(w.at, now) {
		return false
	}
	if watched {
		_ = notify.Remove(w.folder) // that watch is of a folder which has gone elsewhere
	}
	w.at = nil
	if err := notify.Add(w.folder); err != nil {
		w.log.Warn("cannot watch the folder of the configuration", "folder", w.folder, "err", err)
		return false
	}
	w.at = now
	return true
}

// poll is for systems that have no watch left to give.
func (w *watch) poll(ctx context.Context) {
	tick := time.NewTicker(retryTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look()
		}
	}
}

// look reads the file and calls changed when its text is another.
func (w *watch) look() {
	data, err := readFile(w.path)
	if err != nil {
		w.log.Debug("the configuration cannot be read now", "file", w.path, "err", err)
		return
	}
	if digest := sha256.Sum256(data); digest != w.seen {
		w.seen = digest
		w.changed()
	}
}
