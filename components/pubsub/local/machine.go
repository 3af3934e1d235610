package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

func init() { store.Register("pubsub", openMachine) }

// keepEvery is the time between what groups have settled and its being written, which takes its own time.
const keepEvery = 100 * time.Millisecond

// machine decides, in the process that owns the store, for all components of all sidecars. Topics and groups are read when
// somebody comes for them, so that an owner can begin at once.
type machine struct {
	space *db.Space
	log   *slog.Logger
	ctx   context.Context
	tasks sync.WaitGroup
	full  chan struct{} // a topic has more than it may retain

	mu        sync.Mutex
	places    map[address]*place
	told      map[string]bool // what cannot be read
	abandoned db.Time         // when it was looked for groups that are

	noting sync.Mutex
	noted  map[keeper]bool // have something that is to be kept
	stir   chan struct{}
	unkept bool // something is, which was said; of keepAlways
}

// keeper has something in memory that is to be written now and then.
type keeper interface {
	keep(ctx context.Context) error
}

func openMachine(ctx context.Context, space *db.Space, log *slog.Logger) (store.Machine, error) {
	m := &machine{space: space, log: log, ctx: ctx, places: map[address]*place{}, told: map[string]bool{}, noted: map[keeper]bool{},
		stir: make(chan struct{}, 1), full: make(chan struct{}, 1), abandoned: space.Now()}
	m.tasks.Go(m.keepAlways)
	m.tasks.Go(m.sweepAlways)
	return m, nil
}

func (m *machine) Handlers(mux *store.Mux) {
	publishCall.Handle(mux, m.publish)
	subscribeStream.Handle(mux, m.subscribe)
}

// Close keeps what is settled: an orderly end loses none of it.
func (m *machine) Close() {
	m.tasks.Wait()
	m.keepNoted(context.Background())
}

// note says that k has something to keep.
func (m *machine) note(k keeper) {
	m.noting.Lock()
	m.noted[k] = true
	m.noting.Unlock()
	nudge(m.stir)
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (m *machine) keepAlways() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.stir:
		}
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(keepEvery):
		}
		m.keepNoted(m.ctx)
	}
}

func (m *machine) keepNoted(ctx context.Context) {
	m.noting.Lock()
	all := m.noted
	m.noted = map[keeper]bool{}
	m.noting.Unlock()
	var keeping sync.WaitGroup // together: they share a commit then
	var failed atomic.Pointer[error]
	for k := range all {
		keeping.Go(func() {
			if err := k.keep(ctx); err != nil {
				m.note(k)
				failed.Store(&err)
			}
		})
	}
	keeping.Wait()
	if err := failed.Load(); err == nil {
		m.unkept = false
	} else if ctx.Err() == nil && !m.unkept {
		m.unkept = true
		m.log.Error("what was settled could not be kept; it is tried again until it is", "err", *err)
	}
}

// away makes of the end of the store what callers know.
func away(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, db.ErrClosed):
		return fmt.Errorf("%s: %w: %w", what, components.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
