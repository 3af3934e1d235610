package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

var (
	errRemoved = components.WithReason(fmt.Errorf("%w: the component was taken out of the configuration", components.ErrUnavailable), components.ReasonReloaded)
	errResting = fmt.Errorf("%w: the components are not running", components.ErrUnavailable)
)

// ErrHopeless marks what Start and Failed say of a component that would not open however often that was tried.
var ErrHopeless = errors.New("cannot be opened")

// Start opens the components of c. It fails if one that is required cannot be opened before ctx ends, or if the first attempt to
// open one finds what another attempt will find, too, such as damaged data; the others are tried again in the background. That first
// attempt may last longer than Start waits for it: Failed tells of it then.
func (h *Host) Start(ctx context.Context, c *config.Config) error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	if h.running || h.life.Err() != nil {
		return errResting
	}
	h.running = true
	var started []*keeper
	for _, conf := range ordered(c) {
		started = append(started, h.launch(ctx, conf, h.secret, true))
	}
	return h.await(ctx, started)
}

// Failed answers, once, what the first attempt to open a component has found that will not pass: the sidecar was started with what it
// cannot run with. What was open before, or came with a reload, is never the reason: it is failing, and the others go on.
func (h *Host) Failed() <-chan error { return h.failed }

// launch declares a component and begins to open it.
func (h *Host) launch(ctx context.Context, conf config.Component, secret func(context.Context) secretOf, ofStart bool) *keeper {
	k := h.newKeeper(conf, secret)
	k.ofStart = ofStart
	h.mu.Lock()
	h.keepers[key{conf.Capability, conf.Name}] = k
	h.mu.Unlock()
	k.run()
	if conf.Capability == secrets { // others may refer to it
		k.waitForAttempt(ctx, h.opts.StartGrace)
	}
	return k
}

// await waits until the first attempt to open each of them has ended, but not for ever, and until those that are required are open.
func (h *Host) await(ctx context.Context, started []*keeper) error {
	until := time.Now().Add(h.opts.StartGrace)
	for _, k := range started {
		k.waitForAttempt(ctx, time.Until(until))
	}
	for _, k := range started {
		if err := k.require(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (k *keeper) waitForAttempt(ctx context.Context, patience time.Duration) {
	select {
	case <-k.first:
	case <-time.After(patience):
	case <-ctx.Done():
	}
}

// require waits for a component that the sidecar must not start without. One of any kind that will not open is an error.
func (k *keeper) require(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		k.mu.Lock()
		open, err := k.current != nil, k.err
		k.mu.Unlock()
		switch {
		case open:
			return nil
		case lasting(err):
			return k.hopeless(err)
		case !k.conf.Required:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			why := ctx.Err()
			if err != nil {
				why = fmt.Errorf("%w: %w", why, err)
			}
			return fmt.Errorf("%s: required %s %q is not ready: %w", k.conf.Position, k.conf.Capability, k.conf.Name, why)
		}
	}
}

func (k *keeper) hopeless(err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return fmt.Errorf("%s: %s %q %w: %w", k.conf.Position, k.conf.Capability, k.conf.Name, ErrHopeless, err)
}

// lasting tells whether an error of opening will be there again at the next attempt.
func lasting(err error) bool {
	return errors.Is(err, components.ErrDamaged) || errors.Is(err, components.ErrPrecondition) || errors.Is(err, components.ErrUnsupported)
}

// Close ends all components, those that others refer to last. ctx bounds how long calls under way, and drivers that close or are
// still opening, are waited for. After it there is neither Start nor Reload.
func (h *Host) Close(ctx context.Context) error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	defer h.end()
	defer context.AfterFunc(ctx, h.end)()
	h.running = false
	var first, last []key
	h.mu.Lock()
	for id := range h.keepers {
		if id.capability == secrets {
			last = append(last, id)
		} else {
			first = append(first, id)
		}
	}
	h.mu.Unlock()
	h.remove(ctx, first)
	h.remove(ctx, last)
	h.retiring.Wait()
	return ctx.Err()
}

func (h *Host) remove(ctx context.Context, ids []key) {
	var wg sync.WaitGroup
	for _, id := range ids {
		h.mu.Lock()
		k := h.keepers[id]
		delete(h.keepers, id)
		h.mu.Unlock()
		k.kind.drop(id.name)
		wg.Go(func() { k.close(ctx, errRemoved) })
	}
	wg.Wait()
}

// Dial opens each component of c once, asks it whether it would serve, and closes it again; it answers what went wrong by
// component, for a check of a configuration from outside a running sidecar. Secret components stay open until the end, since
// others refer to them. It is for a Host that is not started.
func (h *Host) Dial(ctx context.Context, c *config.Config) map[components.ID]error {
	errs := map[components.ID]error{}
	var open []config.Component
	for _, conf := range ordered(c) {
		if conf.Capability == secrets {
			open = append(open, conf)
		}
	}
	defer h.Close(context.WithoutCancel(ctx))
	if err := h.Start(ctx, &config.Config{Components: open, SecretsFirst: c.SecretsFirst}); err != nil {
		h.opts.Logger.Warn("secrets for a check", "err", err)
	}
	for _, conf := range ordered(c) {
		errs[conf.ID] = h.dial(ctx, conf)
	}
	return errs
}

func (h *Host) dial(ctx context.Context, conf config.Component) error {
	options, err := conf.Resolve(h.secret(ctx))
	if err != nil {
		return err
	}
	in, err := h.open(ctx, h.kinds[conf.Capability], conf, options)
	if err != nil {
		return err
	}
	defer h.shut(context.WithoutCancel(ctx), in, h.opts.Logger)
	if c, ok := in.driver.(components.Checker); ok {
		return c.Check(ctx)
	}
	return nil
}
