package store

import (
	"context"
	"path/filepath"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// Link leads to the machines of the store in a data folder. Safe for concurrent use.
type Link struct {
	machines *machines
	release  func()
}

// Join makes the link of a component. All of one process are the same underneath.
func Join(ctx context.Context, env components.Env) (*Link, error) {
	dir := filepath.Join(env.DataDir, "store")
	m, release, err := components.Share(ctx, env.Shared, "store "+dir, func(context.Context) (*machines, error) {
		d, err := db.Open(db.Options{Dir: dir, Logger: env.Logger})
		if err != nil {
			return nil, err
		}
		return openMachines(d, env.Logger)
	}, func(m *machines) {
		m.close()
		if err := m.db.Close(); err != nil {
			env.Logger.Error("the store could not be closed", "err", err)
		}
	})
	if err != nil {
		return nil, err
	}
	return &Link{m, release}, nil
}

// Close ends the link. The last one of a process that owns the store gives it up.
func (l *Link) Close() { l.release() }
