package host

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// keeper sees to one component: opens it, as often as it takes, and asks now and then whether it is well.
type keeper struct {
	h    *Host
	kind kind
	slot slot
	log  *slog.Logger

	mu      sync.Mutex
	conf    config.Component
	edition int       // counts the changes of conf
	current *instance // nil: not open
	options any       // those of current
	phase   string
	err     error

	first chan struct{} // closed when the first attempt has ended
	stop  context.CancelFunc
	ended chan struct{}
}

// instance is one opened driver and what goes with it.
type instance struct {
	driver  any
	options any
	release func() // its metrics
}

func (h *Host) newKeeper(c config.Component) *keeper {
	kind := h.kinds[c.Capability]
	return &keeper{h: h, kind: kind, slot: kind.declare(c.ID, c.Limits, h.opts.Observe), conf: c, phase: "starting",
		log:   h.opts.Logger.With("capability", c.Capability, "component", c.Name),
		first: make(chan struct{}), ended: make(chan struct{})}
}

func (k *keeper) state() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := State{Name: k.conf.Name, Capability: k.conf.Capability, Driver: k.conf.Driver, State: k.phase}
	if k.err != nil {
		s.Error = k.err.Error()
	}
	return s
}

func (k *keeper) run() {
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	go func() {
		defer close(k.ended)
		if k.openUntil(ctx) {
			k.watch(ctx)
		}
	}()
}

// openUntil tries until the component is open (true) or ctx has ended.
func (k *keeper) openUntil(ctx context.Context) bool {
	wait := k.h.opts.RetryMin
	for attempted := false; ; {
		k.mu.Lock()
		conf, edition, open := k.conf, k.edition, k.current != nil
		k.mu.Unlock()
		if open {
			return true
		}
		in, err := k.h.open(ctx, k.kind, conf)
		if err != nil {
			k.failed(err)
		} else if open = k.install(edition, conf, in); !open {
			k.h.shut(ctx, in, k.log) // the configuration has changed meanwhile
			continue
		}
		if !attempted {
			attempted = true
			close(k.first)
		}
		if open {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, k.h.opts.RetryMax)
	}
}

func (k *keeper) failed(err error) {
	k.slot.fail(err)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil || k.err.Error() != err.Error() { // once for each reason, not for each attempt
		k.log.Warn("component cannot be opened; trying again in the background", "driver", k.conf.Driver, "err", err)
	}
	k.phase, k.err = "failing", err
}

// install puts an instance to use and closes the one before when its last call has ended. It does neither (false) if the
// configuration is no longer of the edition that the instance was opened for.
func (k *keeper) install(edition int, conf config.Component, in *instance) bool {
	k.mu.Lock()
	if k.edition != edition {
		k.mu.Unlock()
		return false
	}
	old := k.current
	k.conf, k.current, k.options, k.phase, k.err = conf, in, in.options, "ready", nil
	k.mu.Unlock()
	retired := k.slot.set(conf.Driver, conf.Limits, in.driver)
	k.log.Info("component is ready", "driver", conf.Driver)
	if old != nil {
		go func() {
			<-retired
			k.h.shut(context.Background(), old, k.log)
		}()
	}
	return true
}

// watch asks a driver that can tell whether it would serve. What fails stays in use: its calls say more than the check.
func (k *keeper) watch(ctx context.Context) {
	tick := time.NewTicker(k.h.opts.CheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		k.mu.Lock()
		in := k.current
		k.mu.Unlock()
		if in == nil {
			continue
		}
		c, ok := in.driver.(components.Checker)
		if !ok {
			continue
		}
		limit, cancel := context.WithTimeout(ctx, k.h.opts.CheckEvery)
		err := c.Check(limit)
		cancel()
		if ctx.Err() == nil {
			k.checked(in, err)
		}
	}
}

func (k *keeper) checked(in *instance, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != in {
		return
	}
	was := k.phase
	k.phase, k.err = "ready", err
	if err != nil {
		k.phase = "failing"
	}
	if was != k.phase {
		k.log.Warn("component changed its state", "state", k.phase, "err", err)
	}
}

// close ends the component: its calls are given until ctx ends.
func (k *keeper) close(ctx context.Context, why error) {
	k.stop()
	<-k.ended
	k.mu.Lock()
	in := k.current
	k.current = nil
	k.mu.Unlock()
	retired := k.slot.clear(why)
	if in == nil {
		return
	}
	select {
	case <-retired:
	case <-ctx.Done():
	}
	k.h.shut(ctx, in, k.log)
}

// open makes an instance of what conf says.
func (h *Host) open(ctx context.Context, kind kind, conf config.Component) (*instance, error) {
	options, err := conf.Resolve(h.secret(ctx))
	if err != nil {
		return nil, err
	}
	return h.openWith(ctx, kind, conf, options)
}

func (h *Host) openWith(ctx context.Context, kind kind, conf config.Component, options any) (_ *instance, err error) {
	in := &instance{options: options, release: func() {}}
	env := components.Env{ID: conf.ID, DataDir: h.opts.DataDir, Shared: h.shared,
		Logger: h.opts.Logger.With("capability", conf.Capability, "component", conf.Name, "driver", conf.Driver)}
	if h.opts.Meter != nil {
		env.Meter, in.release = h.opts.Meter(conf.ID)
	}
	defer func() {
		if p := recover(); p != nil { // a driver's fault must not end the sidecar
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

func (h *Host) shut(ctx context.Context, in *instance, log *slog.Logger) {
	if c, ok := in.driver.(components.Closer); ok {
		if err := c.Close(ctx); err != nil {
			log.Warn("component did not close well", "err", err)
		}
	}
	in.release()
}

func (h *Host) secret(ctx context.Context) func(component, key string) (string, error) {
	return func(component, key string) (string, error) {
		if h.opts.Secret == nil {
			return "", fmt.Errorf("secret %s/%s: %w", component, key, components.ErrUnsupported)
		}
		return h.opts.Secret(ctx, component, key)
	}
}
