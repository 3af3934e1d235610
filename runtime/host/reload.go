package host

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

var errReloading = components.WithReason(fmt.Errorf("%w: the component is being reloaded", components.ErrUnavailable), components.ReasonReloaded)

// Reload makes the components those of c. One whose resolved options are unchanged goes on untouched, be it open or still tried.
// Each one that changed must open before ctx ends, and one that is new as at a Start; if one does not, all stay as they were and the
// error says why. Calls under way of what is taken out, and drivers that must be closed first, are waited for until ctx ends.
func (h *Host) Reload(ctx context.Context, c *config.Config) error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	if !h.running {
		return errResting
	}
	p := &plan{h: h, coming: map[string]revealer{}}
	if err := p.prepare(ctx, ordered(c)); err != nil {
		p.undo(ctx)
		return err
	}
	p.commit(ctx)
	return nil
}

// plan is a reload before it happens. All that can fail is done before the first component is changed for good.
type plan struct {
	h       *Host
	changes []*change
	added   []*keeper // they run already
	removed []key

	mu     sync.Mutex
	coming map[string]revealer // secret components that were changed, not in use yet
}

// change is what becomes of one component that there was before.
type change struct {
	k      *keeper
	conf   config.Component
	paused bool
	in     *instance // opened for conf; nil: what is open stays, or what is tried
	out    *instance // taken out of use and not closed yet, since both cannot be open at once
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
			p.added = append(p.added, p.h.launch(ctx, conf, p.secret, false))
			continue
		}
		c := &change{k: k, conf: conf}
		p.changes = append(p.changes, c)
		if err := c.prepare(ctx, p.secret(ctx)); err != nil {
			return fmt.Errorf("%s: %s %q: %w", conf.Position, conf.Capability, conf.Name, err)
		}
		p.foresee(c)
	}
	if err := p.h.await(ctx, p.added); err != nil {
		return err
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

// revealer is the front of a secret component.
type revealer interface {
	Reveal(ctx context.Context, key string) (string, error)
}

// secret answers what the secret components will, those that are changed, too.
func (p *plan) secret(ctx context.Context) secretOf {
	return func(component, key string) (string, error) {
		p.mu.Lock()
		r := p.coming[component]
		p.mu.Unlock()
		if r != nil {
			return r.Reveal(ctx, key)
		}
		return p.h.secret(ctx)(component, key)
	}
}

// foresee has secret answer with a change that is prepared.
func (p *plan) foresee(c *change) {
	if c.in == nil || c.conf.Capability != secrets {
		return
	}
	if r, ok := c.k.kind.preview(c.conf.ID, c.conf.Limits, c.in.driver).(revealer); ok {
		p.mu.Lock()
		p.coming[c.conf.Name] = r
		p.mu.Unlock()
	}
}

func (c *change) prepare(ctx context.Context, secret secretOf) error {
	options, err := c.conf.Resolve(secret)
	if c.keeps(options, err) {
		return nil
	}
	if err != nil {
		return err
	}
	e, ok := options.(components.Exclusive)
	alone := ok && e.Exclusive()
	if alone || !c.k.isOpen() {
		c.paused = true
		if err := c.k.pause(ctx); err != nil {
			return err
		}
	}
	if alone {
		if err := c.makeRoom(ctx); err != nil {
			return err
		}
	}
	c.in, err = c.k.h.open(ctx, c.k.kind, c.conf, options)
	return err
}

// keeps tells whether nothing has to be opened. What has not been opened is tried with the same options anyway; of one whose secrets
// cannot be told they count as they are written.
func (c *change) keeps(options any, err error) bool {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	before, open, tried := c.k.conf, c.k.current != nil, c.k.tried
	switch {
	case c.conf.Driver != before.Driver, !open && c.conf.Required && !before.Required:
		return false
	case !open && (err != nil || tried == nil):
		return c.conf.SameOptions(before)
	}
	return err == nil && reflect.DeepEqual(options, tried)
}

// makeRoom closes what is open: its calls end first.
func (c *change) makeRoom(ctx context.Context) error {
	if c.out = c.k.takeOut(errReloading); c.out == nil {
		return nil
	}
	if err := c.out.idle(ctx); err != nil {
		return fmt.Errorf("it has to be closed first, and calls of it are under way: %w", err)
	}
	closed := c.k.h.shut(ctx, c.out, c.k.log)
	if c.out = nil; !closed {
		return fmt.Errorf("it has to be closed first, and its driver does not: %w", ctx.Err())
	}
	return nil
}

// undoTime is for what was opened for nothing to be closed again.
const undoTime = 5 * time.Second

// undo closes what was opened for nothing, and opens again what had to be closed.
func (p *plan) undo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	var added []key
	for _, k := range p.added {
		added = append(added, key{k.conf.Capability, k.conf.Name})
	}
	p.h.remove(ctx, added)
	for _, c := range p.changes {
		if c.in != nil {
			p.h.shut(ctx, c.in, c.k.log)
		}
		if c.out != nil {
			c.k.install(c.out)
		}
		if c.paused {
			c.k.run()
		}
	}
}

func (p *plan) commit(ctx context.Context) {
	for _, c := range p.changes {
		if c.in == nil {
			c.k.adopt(c.conf)
			continue
		}
		c.k.replace(c.conf, c.in)
		if c.paused {
			c.k.run()
		}
	}
	for _, k := range p.added {
		k.mu.Lock()
		k.secret = p.h.secret
		k.mu.Unlock()
	}
	p.h.remove(ctx, p.removed)
}
