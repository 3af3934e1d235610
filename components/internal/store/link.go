package store

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// Link leads to the machines of the store in a data folder, in whichever process they are. Safe for concurrent use.
type Link struct {
	node    *node
	release func()
}

// Dir is where the store is in a data folder.
func Dir(dataDir string) string { return filepath.Join(dataDir, "store") }

// Join makes the link of a component. All of one process are the same underneath. A store that nobody owns this process owns from
// now on; one that is damaged is components.ErrDamaged.
func Join(ctx context.Context, env components.Env) (*Link, error) {
	dir := Dir(env.DataDir)
	return join(ctx, env, func(ctx context.Context) (*node, error) { return startNode(ctx, dir, env.Logger) })
}

// Lend has those that Join with the same env.Shared and data folder use a DB that is open already, such as one on a file system
// of a test's own. It is not closed at the end.
func Lend(ctx context.Context, env components.Env, d *db.DB) (*Link, error) {
	return join(ctx, env, func(context.Context) (*node, error) { return lentNode(d, env.Logger) })
}

func join(ctx context.Context, env components.Env, open func(context.Context) (*node, error)) (*Link, error) {
	n, release, err := components.Share(ctx, env.Shared, "store "+Dir(env.DataDir), open, (*node).close)
	if err != nil {
		return nil, err
	}
	leave := n.meters.join(env.Meter)
	return &Link{n, sync.OnceFunc(func() {
		leave()
		release()
	})}, nil
}

// Close ends the link. The last one of a process that owns the store gives it up.
func (l *Link) Close() { l.release() }

// Check tells whether the store would serve a write now.
func (l *Link) Check(ctx context.Context) error {
	_, err := checkCall.Call(ctx, l, struct{}{})
	return err
}

// patience is how long a call waits for one process to take over from another.
const patience = 4 * time.Second

// attempt makes a call, again if it was not begun, or is safe to be made again, until one owner has answered it.
func (l *Link) attempt(ctx context.Context, safe bool, call func(*session) error) error {
	var limit time.Time // of waiting
	for {
		s, err := l.node.session(ctx, limit)
		if err != nil {
			return err
		}
		if err = s.try(call); err == nil {
			return nil
		}
		half, left := (*halfDone)(nil), s.gone()
		switch {
		case errors.Is(err, errNotBegun):
		case errors.As(err, &half) && !safe:
			return unavailable(ReasonOutcomeUnknown, "it is not known whether this was done: %w", half.error)
		case !left || ctx.Err() != nil || !lost(err):
			return err
		case !safe:
			return gone(err)
		}
		if limit.IsZero() {
			limit = time.Now().Add(patience)
		}
		if time.Now().After(limit) {
			return errLost
		}
		if left {
			l.node.drop(s)
			continue
		}
		select {
		case <-time.After(racePause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// gone is what callers are told of a call that is not to be made again.
func gone(err error) error {
	return unavailable(ReasonOutcomeUnknown, "the process that owned the store went during the call: it is not known whether it was done: %w", err)
}

// lost are the errors of calls whose owner went.
func lost(err error) bool {
	return errors.Is(err, errConnection) || errors.Is(err, db.ErrClosed) || errors.Is(err, context.Canceled)
}

func (s *session) try(call func(*session) error) error {
	if !s.begin() {
		return errNotBegun
	}
	defer s.end()
	return call(s)
}
