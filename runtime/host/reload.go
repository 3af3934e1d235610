package host

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

var errRemoved = components.WithReason(fmt.Errorf("%w: the component was taken out of the configuration", components.ErrUnavailable), components.ReasonReloaded)

// Start opens the components of c. It fails if one that is required cannot be opened before ctx ends, or if the first attempt to
// open one finds what another attempt will find, too, such as damaged data; the others are tried again in the background.
func (h *Host) Start(ctx context.Context, c *config.Config) error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	return h.begin(ctx, ordered(c))
}

func (h *Host) begin(ctx context.Context, all []config.Component) error {
	started := make([]*keeper, 0, len(all))
	for _, conf := range all {
		k := h.newKeeper(conf)
		h.mu.Lock()
		h.keepers[key{conf.Capability, conf.Name}] = k
		h.mu.Unlock()
		k.run()
		started = append(started, k)
		if conf.Capability == secrets { // others may refer to it
			k.attempted(ctx, h.opts.StartGrace)
		}
	}
	until := time.Now().Add(h.opts.StartGrace)
	for _, k := range started {
		k.attempted(ctx, time.Until(until))
	}
	for _, k := range started {
		if err := k.require(ctx); err != nil {
			return err
		}
	}
	return nil
}

// attempted waits until the first attempt to open the component has ended, but not for ever.
func (k *keeper) attempted(ctx context.Context, patience time.Duration) {
	select {
	case <-k.first:
	case <-time.After(patience):
	case <-ctx.Done():
	}
}

// require waits for a component that the sidecar must not start without.
func (k *keeper) require(ctx context.Context) error {
	if err := k.hopeless(); err != nil {
		return fmt.Errorf("%s: %s %q cannot be opened: %w", k.conf.Position, k.conf.Capability, k.conf.Name, err)
	}
	if !k.conf.Required {
		return nil
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		k.mu.Lock()
		open, err := k.current != nil, k.err
		k.mu.Unlock()
		if open {
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

// hopeless is the error of an attempt to open it that will not succeed by being repeated.
func (k *keeper) hopeless() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil && (errors.Is(k.err, components.ErrDamaged) || errors.Is(k.err, components.ErrPrecondition) || errors.Is(k.err, components.ErrUnsupported)) {
		return k.err
	}
	return nil
}

// Reload makes the components those of c. One whose resolved options are unchanged goes on untouched. Each one that
// changed must open before ctx ends; if one does not, all stay as they were and the error says why.
func (h *Host) Reload(ctx context.Context, c *config.Config) error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	p := &plan{h: h}
	if err := p.prepare(ctx, ordered(c)); err != nil {
		p.undo()
		return err
	}
	return p.commit(ctx)
}

// plan is a reload before it happens.
type plan struct {
	h       *Host
	replace []replacement
	relimit []replacement // the limits alone have changed
	added   []config.Component
	removed []key
}

type replacement struct {
	k    *keeper
	conf config.Component
	in   *instance // opened already; nil: k is not open yet and will try conf
	old  *instance // closed already, since both cannot be open at once
}

func (p *plan) prepare(ctx context.Context, all []config.Component) error {
	wanted := map[key]bool{}
	for _, conf := range all {
		id := key{conf.Capability, conf.Name}
		wanted[id] = true
		p.h.mu.Lock()
		k := p.h.keepers[id]
		p.h.mu.Unlock()
		if k == nil {
			p.added = append(p.added, conf)
			continue
		}
		if err := p.change(ctx, k, conf); err != nil {
			return fmt.Errorf("%s: %s %q: %w", conf.Position, conf.Capability, conf.Name, err)
		}
	}
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	for id := range p.h.keepers {
		if !wanted[id] {
			p.removed = append(p.removed, id)
		}
	}
	return nil
}

func (p *plan) change(ctx context.Context, k *keeper, conf config.Component) error {
	k.mu.Lock()
	current, old, before := k.current, k.options, k.conf
	k.mu.Unlock()
	if current == nil {
		p.replace = append(p.replace, replacement{k: k, conf: conf})
		return nil
	}
	options, err := conf.Resolve(p.h.secret(ctx))
	if err != nil {
		return err
	}
	if conf.Driver == before.Driver && reflect.DeepEqual(options, old) {
		if conf.Limits != before.Limits {
			p.relimit = append(p.relimit, replacement{k: k, conf: conf})
		}
		return nil
	}
	r := replacement{k: k, conf: conf}
	if e, ok := options.(components.Exclusive); ok && e.Exclusive() {
		<-k.slot.clear(components.WithReason(fmt.Errorf("%w: the component is being reloaded", components.ErrUnavailable), components.ReasonReloaded))
		p.h.shut(ctx, current, k.log)
		r.old = current
	}
	r.in, err = p.h.openWith(ctx, k.kind, conf, options)
	p.replace = append(p.replace, r)
	return err
}

// undo closes what was opened for nothing and opens again what had to be closed.
func (p *plan) undo() {
	for _, r := range p.replace {
		if r.in != nil {
			p.h.shut(context.Background(), r.in, r.k.log)
		}
		if r.old != nil {
			r.k.reopen()
		}
	}
}

// reopen goes back to the configuration that was closed for another.
func (k *keeper) reopen() {
	k.stop()
	<-k.ended
	k.mu.Lock()
	k.current, k.phase = nil, "starting"
	k.first, k.ended = make(chan struct{}), make(chan struct{})
	k.mu.Unlock()
	k.run()
}

func (p *plan) commit(ctx context.Context) error {
	for _, r := range p.relimit {
		r.k.mu.Lock()
		r.k.conf = r.conf
		r.k.mu.Unlock()
		r.k.slot.limit(r.conf.Limits)
	}
	for _, r := range p.replace {
		r.k.mu.Lock()
		r.k.conf = r.conf
		r.k.edition++
		edition := r.k.edition
		if r.old != nil {
			r.k.current = nil
		}
		r.k.mu.Unlock()
		if r.in != nil {
			r.k.install(edition, r.conf, r.in)
		}
	}
	err := p.h.begin(ctx, p.added)
	p.h.remove(ctx, p.removed)
	return err
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

// Close ends all components, those that others refer to last; ctx bounds how long calls under way are waited for.
func (h *Host) Close(ctx context.Context) error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
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
	return ctx.Err()
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
	in, err := h.open(ctx, h.kinds[conf.Capability], conf)
	if err != nil {
		return err
	}
	defer h.shut(context.WithoutCancel(ctx), in, h.opts.Logger)
	if c, ok := in.driver.(components.Checker); ok {
		return c.Check(ctx)
	}
	return nil
}
