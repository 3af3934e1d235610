package file

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
)

// tree is what all watches of an instance share: one look at the folder for all of them, whenever something changes in it.
type tree struct {
	dir   string
	log   *slog.Logger
	every time.Duration

	mu       sync.Mutex
	sight    folder.Sight
	newer    chan struct{}    // closed when there is another sight
	notifier *folder.Notifier // nil: nobody has watched yet
	closed   bool
	ended    chan struct{}
}

// now looks, and answers what it sees and a channel that is closed when there is something else to see.
func (t *tree) now() (folder.Sight, <-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return folder.Sight{}, nil, errClosed
	}
	if t.notifier == nil {
		t.notifier, t.ended, t.newer = folder.NewNotifier(t.log, t.every), make(chan struct{}), make(chan struct{})
		go t.run(t.notifier.C)
	}
	t.look()
	return t.sight, t.newer, nil
}

// last is what was seen last.
func (t *tree) last() (folder.Sight, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sight, t.newer
}

func (t *tree) look() {
	t.notifier.Begin()
	t.notifier.Watch(t.dir)
	seen := folder.Sight{}
	root, err := folder.Open(t.dir)
	switch {
	case err == nil:
		seen = folder.Look(root, "", func(dir string) { t.notifier.Watch(filepath.Join(t.dir, filepath.FromSlash(dir))) })
		root.Close()
	case !errors.Is(err, components.ErrNotFound):
		seen.Bad = map[string]error{"": err}
	}
	t.notifier.End()
	if seen.Equal(t.sight) {
		return
	}
	t.sight = seen
	close(t.newer)
	t.newer = make(chan struct{})
}

func (t *tree) run(due <-chan struct{}) {
	ended := t.ended
	defer close(ended)
	for range due {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return
		}
		t.look()
		t.mu.Unlock()
	}
}

// close ends it and waits for its goroutines.
func (t *tree) close() {
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	notifier, ended := t.notifier, t.ended
	t.mu.Unlock()
	if notifier == nil {
		return
	}
	if first {
		notifier.Close()
	}
	<-ended
}

// keys are those selected among what is seen, sorted. A file beside the folders of the namespaces is no key.
func keys(seen folder.Sight, sel config.Selection) (keys []string) {
	for key := range seen.Files {
		if sel.Has(key) && strings.Contains(key, "/") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// fault is why what is selected cannot be known.
func fault(seen folder.Sight, sel config.Selection) error {
	return seen.Fault(sel.Keys, sel.Prefixes)
}
