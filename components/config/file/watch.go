package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
)

var errClosed = fmt.Errorf("%w: the component is closed", components.ErrUnavailable)

func (s *store) Watch(ctx context.Context, sel config.Selection, report func([]config.Change, bool) error) error {
	for _, key := range sel.Keys {
		if err := check(key); err != nil {
			return err
		}
	}
	seen, newer, err := s.tree.now()
	if err != nil {
		return err
	}
	if err := fault(seen, sel); err != nil {
		return err
	}
	w := &watch{store: s, sel: sel, told: map[string]told{}, warned: map[string]string{}}
	changes, err := w.changes(seen, true)
	if err != nil {
		return err
	}
	if err := report(changes, true); err != nil {
		return err
	}
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closed:
			return errClosed
		case <-newer:
		case <-again:
		}
		seen, newer = s.tree.last()
		changes, err := w.changes(seen, false)
		if again = nil; err != nil {
			again = time.After(retryRead)
		}
		if len(changes) == 0 {
			continue
		}
		if err := report(changes, false); err != nil {
			return err
		}
	}
}

// retryRead is when a file is tried again that could not be read, should nothing be told of it before.
const retryRead = time.Second

// watch is what one watcher was told of each key.
type watch struct {
	store  *store
	sel    config.Selection
	told   map[string]told
	warned map[string]string // errors by key
}

type told struct {
	stamp  folder.Stamp
	digest string
}

// changes reads what has changed, as far as it can be read: err is why it is not all. At first (strict) it is all or
// nothing; later the last value of a key stands that cannot be read, with a warning.
func (w *watch) changes(seen folder.Sight, strict bool) (changes []config.Change, err error) {
	root, err := folder.Open(w.store.dir)
	if err == nil {
		defer root.Close()
	} else if !errors.Is(err, components.ErrNotFound) {
		return nil, err
	}
	err = nil
	there := map[string]bool{}
	for _, key := range keys(seen, w.sel) {
		change, failed := w.look(root, key, seen.Files[key])
		if errors.Is(failed, components.ErrNotFound) {
			continue
		}
		there[key] = true
		switch {
		case failed != nil && strict:
			return nil, failed
		case failed != nil:
			err = failed
			w.warn(key, failed)
		case change.Key != "":
			delete(w.warned, key)
			changes = append(changes, change)
		}
	}
	return append(changes, w.gone(seen, there)...), err
}

// gone are the keys that were there before and are not now. Where it cannot be told, they are taken to be.
func (w *watch) gone(seen folder.Sight, there map[string]bool) (changes []config.Change) {
	for key := range w.told {
		if there[key] || seen.Fault([]string{key}, nil) != nil {
			continue
		}
		delete(w.told, key)
		delete(w.warned, key)
		changes = append(changes, config.Change{Key: key, Deleted: true})
	}
	return changes
}

// look reads a key if it has another stamp than before; a change without a key means that the content is the same.
func (w *watch) look(root *os.Root, key string, stamp folder.Stamp) (config.Change, error) {
	last, known := w.told[key]
	if known && last.stamp == stamp {
		return config.Change{}, nil
	}
	if root == nil {
		return config.Change{}, components.ErrNotFound
	}
	data, stamp, err := folder.Read(root, key, config.MaxValue)
	if err != nil {
		return config.Change{}, fmt.Errorf("%q: %w", key, err)
	}
	now := told{stamp, digest(data)}
	w.told[key] = now
	if known && last.digest == now.digest {
		return config.Change{}, nil
	}
	return config.Change{Key: key, Item: itemOf(key, data, stamp)}, nil
}

func (w *watch) warn(key string, err error) {
	if w.warned[key] != err.Error() {
		w.warned[key] = err.Error()
		w.store.log.Warn("a watched value cannot be read; the last one stands", "op", "watch", "err", err)
	}
}
