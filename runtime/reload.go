package runtime

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"
)

// reloads applies changed configurations, one at a time, whoever asks: a signal, a change of the file, or an operator at admin.
type reloads struct {
	s     *sidecar
	load  func() (*config.Config, error)
	asked chan struct{}

	applying sync.Mutex
	mu       sync.Mutex // not held while one is applied: admin shows how things are meanwhile
	count    int
	fault    string
}

func newReloads(s *sidecar, load func() (*config.Config, error)) *reloads {
	return &reloads{s: s, load: load, asked: make(chan struct{}, 1), count: 1}
}

// state is what admin shows.
func (r *reloads) state() (generation int, lastError string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count, r.fault
}

// What a reload meets that comes too early or too late.
var (
	errStarting = fmt.Errorf("%w: the sidecar is starting", admin.ErrNotNow)
	errEnding   = fmt.Errorf("%w: the sidecar is ending", admin.ErrNotNow)
)

// apply reads the configuration and makes it so; one with a fault changes nothing, and one without a change is no new one.
func (r *reloads) apply(ctx context.Context) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	switch {
	case !r.s.wasReady.Load():
		return errStarting // its parts are not all there
	case r.s.ending.Load():
		return errEnding
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.s.draining, cancel)()
	changed, err := r.change(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.fault = err.Error()
		r.s.log.Error("configuration was not reloaded: all goes on as before", "err", err)
		return err
	}
	r.fault = ""
	if changed {
		r.count++
		r.s.log.Info("configuration reloaded", "generation", r.count)
	}
	return nil
}

// live are the settings that change without a restart; components do too.
var live = []string{"telemetry.log.level", "app.services", "drain", "reload", "mesh.defaults", "mesh.routes", "mesh.migration"}

func (r *reloads) change(ctx context.Context) (changed bool, err error) {
	next, err := r.load()
	if err != nil {
		return false, err
	}
	before := r.s.config()
	diff, err := config.Diff(before, next, live...)
	if err != nil {
		return false, err
	}
	level, err := r.setLevel(before, next)
	if err != nil {
		return false, err
	}
	if err := r.s.rules.Rebase(next.Mesh.Policies); err != nil { // they may not fit what the component says
		level()
		return false, err
	}
	undo := func() {
		level()
		_ = r.s.rules.Rebase(before.Mesh.Policies) // which fitted
	}
	ctx, cancel := context.WithTimeout(ctx, next.Reload.Timeout)
	defer cancel()
	if err := r.s.host.Reload(ctx, next); err != nil { // also without a change that Diff sees: a secret may have another value
		undo()
		return false, fmt.Errorf("components: %w", err)
	}
	r.s.publisher.Declare(declared(next))
	r.s.conf.Store(next)
	return len(diff.Added)+len(diff.Removed)+len(diff.Changed)+len(diff.Settings) > 0, nil
}

// setLevel goes before the components, since it can fail and be undone. A level that was set at admin stays unless the file's changed.
func (r *reloads) setLevel(before, next *config.Config) (undo func(), err error) {
	now := r.s.telemetry.Level()
	if next.Telemetry.Log.Level == before.Telemetry.Log.Level {
		return func() {}, nil
	}
	if err := r.s.telemetry.SetLevel(next.Telemetry.Log.Level); err != nil {
		return nil, err
	}
	return func() { r.s.telemetry.SetLevel(now) }, nil
}

// ask has the configuration read again soon.
func (r *reloads) ask() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// watch reloads whenever it is asked for or the file has changed, until ctx ends. What failed is not tried again before
// either of these: the same text would fail again.
func (r *reloads) watch(ctx context.Context) {
	var files sync.WaitGroup
	defer files.Wait()
	files.Go(func() { config.Watch(ctx, r.s.config(), r.s.log, r.ask) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.asked:
		}
		limit, cancel := context.WithTimeout(ctx, time.Minute)
		r.apply(limit)
		cancel()
	}
}
