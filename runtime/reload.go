package runtime

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// reloads applies changed configurations, one at a time.
type reloads struct {
	s    *sidecar
	load func() (*config.Config, error)

	mu         sync.Mutex
	generation int
	lastError  string
}

// state is what admin shows.
func (r *reloads) state() (generation int, lastError string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.generation, r.lastError
}

// apply reads the configuration and makes it so; one with a fault changes nothing.
func (r *reloads) apply(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.change(ctx)
	if err != nil {
		r.lastError = err.Error()
		r.s.log.Error("configuration was not reloaded: all goes on as before", "err", err)
		return err
	}
	r.generation++
	r.lastError = ""
	r.s.log.Info("configuration reloaded", "generation", r.generation)
	return nil
}

// live are the settings that change without a restart; components do too.
var live = []string{"telemetry.log.level", "app.services", "drain", "reload"}

func (r *reloads) change(ctx context.Context) error {
	next, err := r.load()
	if err != nil {
		return err
	}
	before := r.s.config()
	if _, err := config.Diff(before, next, live...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, next.Reload.Timeout)
	defer cancel()
	if err := r.s.host.Reload(ctx, next); err != nil {
		return fmt.Errorf("components: %w", err)
	}
	if next.Telemetry.Log.Level != before.Telemetry.Log.Level {
		if err := r.s.telemetry.SetLevel(next.Telemetry.Log.Level); err != nil {
			return err
		}
	}
	r.s.publisher.Declare(declared(next))
	r.s.conf.Store(next)
	return nil
}

// watch reloads at each signal and each change of the file, until ctx ends.
func (r *reloads) watch(ctx context.Context, signals <-chan os.Signal) {
	changed := make(chan struct{}, 1)
	var files sync.WaitGroup
	defer files.Wait()
	if c := r.s.config(); c.SourcePath != "" {
		files.Go(func() {
			config.Watch(ctx, c, r.s.log, func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			})
		})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		case <-changed:
		}
		limit, cancel := context.WithTimeout(ctx, time.Minute)
		r.apply(limit)
		cancel()
	}
}
