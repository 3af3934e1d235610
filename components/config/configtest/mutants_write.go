package configtest

import (
	"context"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/config"
)

var writeMutants = []componenttest.Mutant[config.Driver]{
	{Name: "set does not ask for the version", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), set: func(ctx context.Context, item config.Item, _ string) (string, error) {
			return d.(Full).Set(ctx, item, "")
		}}
	}},
	{Name: "set asks, then writes", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), set: func(ctx context.Context, item config.Item, ifVersion string) (string, error) {
			if now, _ := d.Get(ctx, item.Key); ifVersion != "" && now.Version != ifVersion {
				return "", components.ErrConflict
			}
			time.Sleep(time.Millisecond)
			return d.(Full).Set(ctx, item, "")
		}}
	}},
	{Name: "set creates what has no version", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), set: func(ctx context.Context, item config.Item, ifVersion string) (string, error) {
			if _, err := d.Get(ctx, item.Key); err != nil {
				ifVersion = ""
			}
			return d.(Full).Set(ctx, item, ifVersion)
		}}
	}},
	{Name: "set answers another version", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), set: func(ctx context.Context, item config.Item, ifVersion string) (string, error) {
			version, err := d.(Full).Set(ctx, item, ifVersion)
			return version + "x", err
		}}
	}},
	{Name: "set forgets metadata", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), set: func(ctx context.Context, item config.Item, ifVersion string) (string, error) {
			item.Metadata = nil
			return d.(Full).Set(ctx, item, ifVersion)
		}}
	}},
	{Name: "set forgets the content type", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), set: func(ctx context.Context, item config.Item, ifVersion string) (string, error) {
			item.ContentType = ""
			return d.(Full).Set(ctx, item, ifVersion)
		}}
	}},
	{Name: "delete wants the key there", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), remove: func(ctx context.Context, key string) error {
			if _, err := d.Get(ctx, key); err != nil {
				return err
			}
			return d.(Full).Delete(ctx, key)
		}}
	}},
	{Name: "delete empties", Break: func(d config.Driver) config.Driver {
		return &hooks{Full: d.(Full), remove: func(ctx context.Context, key string) error {
			_, err := d.(Full).Set(ctx, config.Item{Key: key}, "")
			return err
		}}
	}},
}
