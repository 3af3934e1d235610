package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Source is where the instances of services are learnt from.
type Source interface {
	// Watch reports the instances of a service as they are now, then again whenever they change, until ctx ends or the
	// source fails.
	Watch(ctx context.Context, s Service, report func([]Instance) error) error
}

// Directory knows the instances of each service that was asked for: one snapshot a service, replaced as a whole, read
// without locks. A service is watched from the first question until nobody has asked for a while. Safe for concurrent use.
type Directory struct {
	source Source
	log    *slog.Logger
	limit  int           // services watched at once
	forget time.Duration // since the last question

	// Hold is how long a push is not believed that drops all of a service's instances, or most of them: calls go to those dropped as well
	// meanwhile, as far as they can be connected. It is set before the first question; 0: pushes are believed.
	Hold time.Duration
	// Counted, if set, is told how many services are watched, whenever that has changed; by any goroutine, and not in order. It is set before the first question.
	Counted func(services int)

	saved *saved

	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	services *services
	count    atomic.Int64
	now      atomic.Int64 // a coarse clock, in seconds
}

// Entry is what the directory knows of one service.
type Entry struct {
	snapshot atomic.Pointer[Snapshot] // first what each call reads
	active   atomic.Int64             // calls under way
	used     atomic.Int64
	budget   budget
	Service  Service
	stop     context.CancelFunc

	directory *Directory

	mu       sync.Mutex
	waiting  []func()
	release  *time.Timer // of those that are held
	watchers map[*watcher]struct{}
	gone     bool // forgotten by the directory: nothing will change any more
}

// Snapshot is the state of a service at one moment. It is never changed.
type Snapshot struct {
	Known     bool  // the source has answered at least once
	Stale     bool  // not in the life of this directory, though: this is from the disk
	Err       error // why it has not, or not lately
	Endpoints []*Endpoint
	Held      []*Endpoint // those that the source has dropped too many of at once to be believed; calls may still go there

	whole atomic.Pointer[subset] // of all of them, once it is needed: what most calls ask for
	sets  atomic.Pointer[sets]
}

// Endpoint is an instance with what calls have shown of it.
type Endpoint struct {
	instance *Instance
	entry    *Entry
	*tally
}

// tally is what calls have shown of the instance at an address. It lives on from snapshot to snapshot, whatever the registry says of the instance.
type tally struct {
	active   atomic.Int64 // calls under way
	failures atomic.Int64 // in a row
	ejected  atomic.Int64 // until then, in nanoseconds since the start
	out      atomic.Int64 // for how long that was, in nanoseconds
}

const (
	maxServices   = 10_000
	forgetService = 10 * time.Minute
	sourceRetry   = time.Second
	firstAnswer   = 5 * time.Second // after which a source that says nothing is taken for one that is away

	firstAnswerSaved = time.Second // if there is something to go by instead
)

var errSilent = errors.New("it has not answered yet")

// NewDirectory makes a directory over source; Close ends its watches.
func NewDirectory(source Source, log *slog.Logger) *Directory {
	d := &Directory{source: source, log: log, limit: maxServices, forget: forgetService, saved: newSaved(), services: newServices()}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.tasks.Go(d.clean)
	return d
}

// Close ends all watches and waits for them.
func (d *Directory) Close() {
	d.stop()
	d.tasks.Wait()
}

// Find answers what is known of a service and begins to watch it; nil when too many are watched already.
func (d *Directory) Find(s Service) *Entry {
	if e := d.services.find(s); e != nil {
		if now := d.now.Load(); e.used.Load() != now {
			e.used.Store(now)
		}
		return e
	}
	if d.count.Load() >= int64(d.limit) {
		return nil
	}
	s = Service{strings.Clone(s.Namespace), strings.Clone(s.Name), strings.Clone(s.Group), strings.Clone(s.Version), strings.Clone(s.Protocol)}
	ctx, stop := context.WithCancel(d.ctx)
	e := &Entry{Service: s, directory: d, stop: stop}
	e.snapshot.Store(&Snapshot{})
	e.used.Store(d.now.Load())
	if there := d.services.add(e); there != e {
		stop()
		return there
	}
	d.counted(1)
	d.tasks.Go(func() { d.follow(ctx, e) })
	return e
}

func (d *Directory) counted(change int64) {
	if n := d.count.Add(change); d.Counted != nil {
		d.Counted(int(n))
	}
}

// Snapshot is the newest one.
func (e *Entry) Snapshot() *Snapshot { return e.snapshot.Load() }

// follow keeps an entry current until ctx ends.
func (d *Directory) follow(ctx context.Context, e *Entry) {
	told := ""
	patience := firstAnswer
	if d.saved.has(e.Service) {
		patience = firstAnswerSaved
	}
	silent := time.AfterFunc(patience, e.overdue)
	defer silent.Stop()
	for ctx.Err() == nil {
		err := d.source.Watch(ctx, e.Service, func(all []Instance) error {
			e.update(all)
			d.saved.changed()
			return ctx.Err()
		})
		if ctx.Err() != nil {
			break
		}
		if text := fmt.Sprint(err); text != told { // once for each reason, not for each attempt
			told = text
			d.log.Warn("registry watch ended; trying again", "service", e.Service.String(), "err", err)
		}
		e.fail(err)
		select {
		case <-ctx.Done():
		case <-time.After(sourceRetry/2 + rand.N(sourceRetry)):
		}
	}
	e.wake(nil)
	e.letGo()
}

// fail notes why the source does not answer; what it said before stands, and before it has said anything, what it said to the
// sidecar that was here before.
func (e *Entry) fail(err error) {
	e.wake(func(now *Snapshot) *Snapshot {
		next := &Snapshot{Known: now.Known, Stale: now.Stale, Err: err, Endpoints: now.Endpoints, Held: now.Held}
		if !now.Known {
			e.recall(next)
		}
		return next
	})
}

// overdue lets those go that wait for the first answer: their number must not grow with the time that the source takes.
func (e *Entry) overdue() {
	if now := e.Snapshot(); !now.Known && now.Err == nil {
		e.fail(errSilent)
	}
}

// wake changes the snapshot, if there is a change, and lets those go on that wait for one.
func (e *Entry) wake(change func(now *Snapshot) *Snapshot) {
	e.mu.Lock()
	if change != nil {
		e.snapshot.Store(change(e.Snapshot()))
	}
	waiting := e.waiting
	e.waiting = nil
	for w := range e.watchers {
		w.poke()
	}
	e.mu.Unlock()
	for _, resume := range waiting {
		resume()
	}
}

// Wait has resume called at the next change, or at once if the source has answered, or the directory forgotten the service,
// meanwhile.
func (e *Entry) Wait(resume func()) {
	e.mu.Lock()
	if s := e.Snapshot(); s.Known || s.Err != nil || e.gone {
		e.mu.Unlock()
		resume()
		return
	}
	e.waiting = append(e.waiting, resume)
	e.mu.Unlock()
}

type watcher struct{ changed chan struct{} }

func (w *watcher) poke() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// join has w told of changes; false if the directory has forgotten the service meanwhile, and another entry is to be found.
func (e *Entry) join(w *watcher) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.gone {
		if e.watchers == nil { // most services have none
			e.watchers = map[*watcher]struct{}{}
		}
		e.watchers[w] = struct{}{}
	}
	return !e.gone
}

// Watch reports the newest snapshot of a service (not Known while the source fails), then again whenever it has changed, until ctx ends. Changes that come faster
// than report returns are reported as one.
func (d *Directory) Watch(ctx context.Context, s Service, report func(*Snapshot) error) error {
	w := &watcher{changed: make(chan struct{}, 1)}
	e := d.Find(s)
	for e != nil && !e.join(w) {
		e = d.Find(s)
	}
	if e == nil {
		return errTooManyServices
	}
	defer func() {
		e.mu.Lock()
		delete(e.watchers, w)
		e.mu.Unlock()
	}()
	w.poke()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.ctx.Done():
			return errClosed
		case <-w.changed:
		}
		if now := e.Snapshot(); now.Known || now.Err != nil {
			if err := report(now); err != nil {
				return err
			}
		}
	}
}

// clean forgets services that nobody asks for.
func (d *Directory) clean() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
		}
		now := d.now.Add(1)
		if now%10 == 0 {
			d.sweep(now)
		}
	}
}

func (d *Directory) sweep(now int64) {
	d.services.each(func(e *Entry) bool {
		idle := time.Duration(now-e.used.Load()) * time.Second
		unknown := len(e.Snapshot().Endpoints) == 0 && idle > time.Minute
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.watchers) == 0 && (unknown || idle > d.forget) {
			e.gone = true
			d.services.remove(e.Service)
			d.counted(-1)
			e.stop()
		}
		return true
	})
}

// Services tells how many instances each watched service has, sorted by namespace and name.
func (d *Directory) Services() []ServiceState {
	var all []ServiceState
	d.services.each(func(e *Entry) bool {
		now := e.Snapshot()
		all = append(all, ServiceState{e.Service, len(now.Endpoints), len(now.Held), now.Stale})
		return true
	})
	slices.SortFunc(all, func(a, b ServiceState) int {
		return strings.Compare(a.Service.Namespace+"/"+a.Service.Name, b.Service.Namespace+"/"+b.Service.Name)
	})
	return all
}

// ServiceState is a line of Services.
type ServiceState struct {
	Service   Service
	Instances int
	Held      int  // more that the source has dropped at once
	Stale     bool // they are known from the disk alone
}
