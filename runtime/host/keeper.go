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

// keeper sees to one component: opens it, as often as it takes, and asks now and then whether it is well. Only while it is paused
// does somebody else open or close the component, or change the options it is opened with; an open one may be replaced any time.
type keeper struct {
	h    *Host
	kind kind
	slot slot
	log  *slog.Logger

	mu      sync.Mutex // also held while slot is changed
	conf    config.Component
	secret  func(context.Context) secretOf // for what conf refers to
	current *instance                      // nil: not open
	tried   any                            // the options of the last attempt to open it; nil: they could not be told
	phase   string
	err     error
	closed  bool // nothing is put to use any more

	first   chan struct{} // closed when the first attempt to open it has ended
	ofStart bool          // that attempt is the start's: what it finds that will not pass ends the host, whenever it does
	doubt   chan struct{} // holds one for the calls that have failed since the last check

	// These two are of whoever holds Host.reloading.
	stop  context.CancelFunc
	ended chan struct{} // closed when all that run began has ended
}

func (h *Host) newKeeper(c config.Component, secret func(context.Context) secretOf) *keeper {
	kind, doubt := h.kinds[c.Capability], make(chan struct{}, 1)
	return &keeper{h: h, kind: kind, slot: kind.declare(c.ID, c.Limits, doubter{h.opts.Observe, doubt}), conf: c, secret: secret, phase: starting,
		log:   h.opts.Logger.With("capability", c.Capability, "component", c.Name),
		first: make(chan struct{}), doubt: doubt}
}

// Ready is the State.State of a component that serves.
const Ready = "ready"

// The other phases.
const (
	starting = "starting"
	failing  = "failing"
)

func (k *keeper) state() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := State{Name: k.conf.Name, Capability: k.conf.Capability, Driver: k.conf.Driver, Required: k.conf.Required, State: k.phase}
	if k.err != nil {
		s.Error = k.err.Error()
	}
	return s
}

// run begins to keep the component, as soon as an earlier run has ended.
func (k *keeper) run() {
	ctx, stop := context.WithCancel(context.Background())
	before, ended := k.ended, make(chan struct{})
	k.stop, k.ended = stop, ended
	go func() {
		defer close(ended)
		if before != nil {
			<-before
		}
		if k.openUntil(ctx) {
			k.watch(ctx)
		}
	}()
}

// pause ends the run. It fails if ctx ends before that: a driver may not heed that an attempt to open it was broken off.
func (k *keeper) pause(ctx context.Context) error {
	k.stop()
	select {
	case <-k.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("its driver goes on opening or checking: %w", ctx.Err())
	}
}

// openUntil tries until the component is open (true) or ctx has ended.
func (k *keeper) openUntil(ctx context.Context) bool {
	wait := k.h.opts.RetryMin
	for !k.isOpen() {
		in, err := k.open(ctx)
		if err == nil {
			if !k.install(in) {
				k.h.shut(k.h.life, in, k.log)
				return false
			}
			k.attempted(nil)
			return true
		}
		if ctx.Err() != nil { // then the error says nothing of the component
			return false
		}
		k.failed(err, k.ends(err))
		k.attempted(err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, k.h.opts.RetryMax)
	}
	return true
}

// attempted takes note of how an attempt to open it has ended, of the first one only.
func (k *keeper) attempted(err error) {
	select {
	case <-k.first:
		return
	default:
	}
	ends := k.ends(err)
	close(k.first)
	if ends {
		select {
		case k.h.failed <- k.hopeless(err):
		default: // one is enough to end
		}
	}
}

// ends tells whether an attempt's error is one that ends the host, before it is noted that it has ended.
func (k *keeper) ends(err error) bool {
	select {
	case <-k.first:
		return false
	default:
		return k.ofStart && lasting(err)
	}
}

func (k *keeper) isOpen() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current != nil
}

// open makes an instance of what conf says now.
func (k *keeper) open(ctx context.Context) (*instance, error) {
	k.mu.Lock()
	conf, secret := k.conf, k.secret
	k.mu.Unlock()
	options, err := conf.Resolve(secret(ctx))
	if err != nil {
		options = nil
	}
	k.mu.Lock()
	k.tried = options
	k.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return k.h.open(ctx, k.kind, conf, options)
}

func (k *keeper) failed(err error, ends bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slot.fail(err)
	if k.err == nil || k.err.Error() != err.Error() { // once for each reason, not for each attempt
		message := "component cannot be opened; trying again in the background"
		if ends {
			message = "component cannot be opened, and will not be by trying again"
		}
		k.log.Log(context.Background(), severity(err), message, "driver", k.conf.Driver, "err", err)
	}
	k.phase, k.err = failing, err
}

// install puts an instance to use that was opened for the keeper's configuration. It does nothing (false) once the keeper is closed.
func (k *keeper) install(in *instance) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return false
	}
	k.use(in)
	return true
}

// replace puts an instance to use that was opened for another configuration, which is the keeper's from now on. The instance before
// is closed when its last call has ended.
func (k *keeper) replace(conf config.Component, in *instance) {
	k.mu.Lock()
	defer k.mu.Unlock()
	old := k.current
	k.conf = conf
	if retired := k.use(in); old != nil {
		old.retired = append(old.retired, retired)
		k.h.retire(old, k.log)
	}
}

func (k *keeper) use(in *instance) (retired <-chan struct{}) {
	k.current, k.tried, k.phase, k.err = in, in.options, Ready, nil
	retired = k.slot.set(k.conf.Driver, k.conf.Limits, in.driver)
	k.log.Info("component is ready", "driver", k.conf.Driver)
	return retired
}

// takeOut takes the instance out of use; its calls go on. nil: there is none.
func (k *keeper) takeOut(why error) *instance {
	k.mu.Lock()
	defer k.mu.Unlock()
	in, retired := k.current, k.slot.clear(why)
	k.current, k.phase, k.err = nil, starting, nil
	if in != nil {
		in.retired = append(in.retired, retired)
	}
	return in
}

// adopt makes a configuration the keeper's, whose options are those of what is open or of what is installed next.
func (k *keeper) adopt(conf config.Component) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.conf.Limits
	if k.conf = conf; k.current != nil && conf.Limits != before {
		k.slot.limit(conf.Limits)
	}
}

// watch asks a driver that can tell whether it would serve. What fails stays in use: its calls say more than the check.
func (k *keeper) watch(ctx context.Context) {
	for k.rest(ctx) {
		k.mu.Lock()
		in := k.current
		k.mu.Unlock()
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

// rest waits until the next check is due: CheckSoon after the one before at the earliest. false: ctx has ended.
func (k *keeper) rest(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(k.h.opts.CheckSoon):
	}
	if k.state().State == failing {
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-k.doubt:
	case <-time.After(k.h.opts.CheckEvery - k.h.opts.CheckSoon):
	}
	return true
}

func (k *keeper) checked(in *instance, err error) {
	k.mu.Lock()
	was, driver := k.phase, k.conf.Driver
	if k.current != in {
		k.mu.Unlock()
		return
	}
	k.phase, k.err = Ready, err
	if err != nil {
		k.phase = failing
	}
	now := k.phase
	k.mu.Unlock()
	if was == now {
		return
	}
	k.log.Log(context.Background(), severity(err), "component changed its state", "state", now, "err", err)
	if now == failing {
		k.h.suspect(driver)
	}
}

// close ends the component: its calls are given until ctx ends. What its driver is still opening then is closed as soon as it is
// open.
func (k *keeper) close(ctx context.Context, why error) {
	_ = k.pause(ctx)
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	if in := k.takeOut(why); in != nil {
		_ = in.idle(ctx)
		k.h.shut(ctx, in, k.log)
	}
}
