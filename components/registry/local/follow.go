package local

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components/registry"
)

// Watch begins anew, with the whole list, whenever the owner of the store has changed.
func (d *driver) Watch(ctx context.Context, s registry.Service, report func([]registry.Record) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.ended, func() { cancel(errClosed) })()
	return watchCall.Follow(ctx, d.Link, watchIn{d.component, s}, func() func(watchOut) (bool, error) {
		return func(out watchOut) (bool, error) { return true, report(out.Records) }
	})
}
