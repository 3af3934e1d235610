package registrytest

import (
	"context"
	"slices"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// Full is a driver that offers all of which there are mutants.
type Full interface {
	registry.Driver
	components.Closer
}

// Mutants are faults that drivers may have, each of which Run finds. What they break must be a Full driver.
func Mutants() []componenttest.Mutant[registry.Driver] {
	return slices.Concat(recordMutants, serviceMutants, watchMutants)
}

type reporter = func([]registry.Record) error

// hooks takes the place of some calls of a driver; those that are nil go through.
type hooks struct {
	Full
	register   func(context.Context, registry.Record) error
	deregister func(context.Context, registry.Service, string) error
	watch      func(context.Context, registry.Service, reporter) error
	close      func(context.Context) error
}

func (h *hooks) Register(ctx context.Context, r registry.Record) error {
	if h.register != nil {
		return h.register(ctx, r)
	}
	return h.Full.Register(ctx, r)
}

func (h *hooks) Deregister(ctx context.Context, s registry.Service, address string) error {
	if h.deregister != nil {
		return h.deregister(ctx, s, address)
	}
	return h.Full.Deregister(ctx, s, address)
}

func (h *hooks) Watch(ctx context.Context, s registry.Service, report func([]registry.Record) error) error {
	if h.watch != nil {
		return h.watch(ctx, s, report)
	}
	return h.Full.Watch(ctx, s, report)
}

func (h *hooks) Close(ctx context.Context) error {
	if h.close != nil {
		return h.close(ctx)
	}
	return h.Full.Close(ctx)
}
