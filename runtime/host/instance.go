package host

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// instance is one opened driver and what goes with it.
type instance struct {
	driver  any
	options any
	release func() // its metrics

	// retired are closed one by one when the calls have ended that began before it was taken out of use; it may have been put back.
	retired []<-chan struct{}
}

// idle waits until no call of an instance that is out of use is under way; when ctx ends before, it answers its error.
func (in *instance) idle(ctx context.Context) error {
	for _, retired := range in.retired {
		select {
		case <-retired:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// open makes an instance. A driver's fault does not end the sidecar.
func (h *Host) open(ctx context.Context, kind kind, conf config.Component, options any) (_ *instance, err error) {
	in := &instance{options: options, release: func() {}}
	env := components.Env{ID: conf.ID, DataDir: h.opts.DataDir, Shared: h.shared,
		Logger: h.opts.Logger.With("capability", conf.Capability, "component", conf.Name, "driver", conf.Driver)}
	if h.opts.Meter != nil {
		env.Meter, in.release = h.opts.Meter(conf.ID)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("driver %s panicked: %v", conf.Driver, p)
		}
		if err != nil {
			in.release()
		}
	}()
	if in.driver, err = kind.open(ctx, env, options); err != nil {
		return nil, err
	}
	return in, nil
}

// retire closes an instance in the background when its last call has ended, or when the host must be closed.
func (h *Host) retire(in *instance, log *slog.Logger) {
	h.retiring.Go(func() {
		_ = in.idle(h.life)
		h.shut(h.life, in, log)
	})
}

// courtesy is what a driver gets that heeds its context, to return when that has ended.
const courtesy = 200 * time.Millisecond

// shut closes an instance. One that goes on closing after ctx has ended is left to itself (false).
func (h *Host) shut(ctx context.Context, in *instance, log *slog.Logger) bool {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		defer in.release()
		if c, ok := in.driver.(components.Closer); ok {
			if err := c.Close(ctx); err != nil {
				log.Warn("component did not close well", "err", err)
			}
		}
	}()
	select {
	case <-closed:
		return true
	case <-ctx.Done():
	}
	select {
	case <-closed:
		return true
	case <-time.After(courtesy):
		log.Warn("component does not close: it is left to itself")
		return false
	}
}

// secretOf answers the value behind ${secret:component/key}.
type secretOf = func(component, key string) (string, error)

func (h *Host) secret(ctx context.Context) secretOf {
	return func(component, key string) (string, error) {
		if h.opts.Secret == nil {
			return "", fmt.Errorf("secret %s/%s: %w", component, key, components.ErrUnsupported)
		}
		return h.opts.Secret(ctx, component, key)
	}
}
