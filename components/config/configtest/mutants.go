package configtest

import (
	"context"
	"slices"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/config"
)

// Full is a driver that offers all of which there are mutants.
type Full interface {
	config.Driver
	config.Setter
	config.Deleter
	components.Closer
}

// Mutants are faults that drivers may have, each of which Run finds. What they break must be a Full driver.
func Mutants() []componenttest.Mutant[config.Driver] {
	return slices.Concat(readMutants, writeMutants, watchMutants)
}

type reporter = func([]config.Change, bool) error

// hooks takes the place of some calls of a driver; those that are nil go through.
type hooks struct {
	Full
	get    func(context.Context, string) (config.Item, error)
	list   func(ctx context.Context, prefix, after string, limit int) ([]config.Item, error)
	set    func(context.Context, config.Item, string) (string, error)
	remove func(context.Context, string) error
	watch  func(context.Context, config.Selection, reporter) error
	close  func(context.Context) error
}

func (h *hooks) Get(ctx context.Context, key string) (config.Item, error) {
	if h.get != nil {
		return h.get(ctx, key)
	}
	return h.Full.Get(ctx, key)
}

func (h *hooks) List(ctx context.Context, prefix, after string, limit int) ([]config.Item, error) {
	if h.list != nil {
		return h.list(ctx, prefix, after, limit)
	}
	return h.Full.List(ctx, prefix, after, limit)
}

func (h *hooks) Set(ctx context.Context, item config.Item, ifVersion string) (string, error) {
	if h.set != nil {
		return h.set(ctx, item, ifVersion)
	}
	return h.Full.Set(ctx, item, ifVersion)
}

func (h *hooks) Delete(ctx context.Context, key string) error {
	if h.remove != nil {
		return h.remove(ctx, key)
	}
	return h.Full.Delete(ctx, key)
}

func (h *hooks) Watch(ctx context.Context, sel config.Selection, report func([]config.Change, bool) error) error {
	if h.watch != nil {
		return h.watch(ctx, sel, report)
	}
	return h.Full.Watch(ctx, sel, report)
}

func (h *hooks) Close(ctx context.Context) error {
	if h.close != nil {
		return h.close(ctx)
	}
	return h.Full.Close(ctx)
}
